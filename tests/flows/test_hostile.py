"""A study full of attacks leaves text: in the report, on the run page, on the terminal."""

import dataclasses
import json

import pytest
from markdown_it import MarkdownIt

from flows.__main__ import main
from reports.page import report_html, report_markdown
from storage.ask import ask, findings, study_figures
from tests.flows.test_report import Page, page_of
from tests.support.hostile import ADDRESS, ATTACKS, N_UNUSABLE, write_hostile
from tests.support.small_study import N_REQUESTS

_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_MARKUP = {"link_open", "image", "html_inline", "html_block", "code_inline", "em_open"}


@pytest.fixture(scope="module")
def hostile_run(run_study, tmp_path_factory):
    """Return a run of the hostile study."""
    folder = tmp_path_factory.mktemp("hostile")
    return run_study(write_hostile(folder / "inputs"), folder / "results")


@pytest.fixture(scope="module")
def found(hostile_run):
    """Return its findings, with edits that did no damage and targets that are attacks as well."""
    found = findings(hostile_run.results, hostile_run.study_id)
    every = found.worst.sql.replace("perplexity_ratio > 2", "perplexity_ratio > 0")
    frame = ask(hostile_run.results, every)
    targets = frame["prompt"].rename("target_new")
    worst = dataclasses.replace(found.worst, frame=frame.with_columns(targets))
    return dataclasses.replace(found, worst=worst)


def markup_in(markdown):
    """Return the kinds of markup that a renderer finds which must come from ourselves."""
    tokens = _MARKDOWN.parse(markdown)
    return _MARKUP & {
        kind for token in tokens for kind in (token.type, *(c.type for c in token.children or ()))
    }


def test_attacks_were_measured(found):
    """The study is no straw man: all but the unusable requests have edits in the report."""
    assert found.n_measured == N_REQUESTS - N_UNUSABLE
    assert sum(ADDRESS in row for row in found.worst.frame["prompt"]) >= 4


def test_report_is_inert(found, hostile_run):
    """Every attack is text of the page: no element, attribute or address comes of it."""
    shown = study_figures(hostile_run.results, hostile_run.study_id)
    for page in (page_of(hostile_run.results), Page(report_html(found, shown))):
        assert not page.tags & {"img", "iframe", "link", "form"}
        assert len(page.scripts) == 2
        assert not any(ADDRESS in script for script in page.scripts)
        assert page.tags >= {"table", "svg"}
        assert all(address.startswith("#") for address in page.addresses)
        assert ATTACKS[0] in page.text
        assert "\x1b" not in page.text
        assert all(len(row) == len(page.cells["worst"][0]) for row in page.cells["worst"])


def test_figures_are_inert(hostile_run):
    """Attacks are data of the figures: no specification holds one, no control character is left."""
    panels = [panel for panel in page_of(hostile_run.results).panels if "columns" in panel]
    assert any(ADDRESS in json.dumps(panel["columns"]) for panel in panels)
    for panel in panels:
        assert ADDRESS not in json.dumps(panel["spec"])
        assert "\\u001b" not in json.dumps(panel["columns"])


def test_run_page_is_inert(found):
    """The Markdown artifact has our headings, tables and fences, and nothing of the attacks."""
    text = report_markdown(found)
    assert not markup_in(text)
    assert {token.info for token in _MARKDOWN.parse(text) if token.type == "fence"} == {"sql"}
    assert f"://{ADDRESS}" not in text
    assert "\x1b" not in text


def test_artifacts_of_the_run_are_inert(hostile_run):
    """What the server was sent: descriptions, Markdown and every cell of the table."""
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[hostile_run.flow_run_id]))
        )
    shown = {artifact.key: artifact for artifact in artifacts if artifact.key}
    assert set(shown) == {
        "progress-study-small",
        "findings-small",
        "incidence-small",
        "report-small",
    }
    assert all(not markup_in(artifact.description) for artifact in shown.values())
    assert not markup_in(shown["findings-small"].data)
    for row in json.loads(shown["incidence-small"].data):
        assert not any(markup_in(cell) for cell in row.values())


@pytest.mark.parametrize(
    "query", ["select subject, prompt from edit_outcomes", "select reason from rejections"]
)
def test_terminal_is_inert(query, hostile_run, capsys):
    """Nothing that a terminal obeys comes out of a query."""
    assert main(["sql", query, "--results", str(hostile_run.results)]) == 0
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert ADDRESS in out
