"""Sequences of edits in a report: sentences, tables and figures, only where there are sequences."""

import dataclasses
import json
import math

import pytest

from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule
from reports.figures import THEMES, figure_config, panel_json, specification
from reports.headline import headline
from reports.page import illustrated_sections, report_html, report_markdown
from reports.sequences import SEQUENCE_PARTS, sequence_headline
from storage.ask import ask, find_study
from storage.readers import EditorSequences, editor_sequences
from tests.flows.test_report import Page
from tests.reports.conftest import published
from tests.reports.whole_study import ATTACK, unpack_edits
from tests.storage.conftest import Folder, make_row
from tests.support.sequence_rows import (
    SETTINGS,
    WALKS,
    Walk,
    write_scores,
    write_sequences,
    write_study,
)

FIGURES = {
    "figure-survival",
    "figure-sequence-perplexity",
    "figure-lasting",
    "figure-drift",
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory, folder_of):
    """Return a study of sequences alone, on two models."""
    folder = folder_of(tmp_path_factory.mktemp("alone"))
    write_study(folder, make_row)
    write_sequences(folder, make_row)
    other = [dataclasses.replace(walk, model="other") for walk in WALKS if walk.editor == "rome"]
    write_sequences(folder, make_row, other)
    for walk in WALKS:
        at = 10 * len(walk.perplexities)
        write_scores(folder, make_row, walk, {"a": (1.0, 0.5), "b": (1.0, 0.0)}, at)
    folder.publish()
    return published(folder.results, "study-1")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """Return a maker of empty results folders."""

    def make(parent):
        folder = Folder(parent / "results")
        folder.results.mkdir()
        return folder

    return make


def parts_of(study):
    """Return the names of a page's parts."""
    return [part.section.name for part in illustrated_sections(study.found, study.shown)]


def figures_of(study):
    """Return the figures of a page."""
    return {
        figure.name: figure
        for part in illustrated_sections(study.found, study.shown)
        for figure in part.figures
    }


def test_study_of_sequences_alone_has_no_parts_on_edits(alone):
    """Nothing is said of edits that were not made; models and settings stand at the end."""
    assert parts_of(alone) == [*SEQUENCE_PARTS, "models", "settings"]
    assert set(figures_of(alone)) == FIGURES


@pytest.mark.slow
def test_study_with_both_has_both(demo, tmp_path):
    """The demo study's edits keep their parts; those on sequences follow, where there are some."""
    assert not set(parts_of(demo)) & set(SEQUENCE_PARTS)
    assert demo.shown.survival.frame.is_empty()
    results = tmp_path / "results"
    unpack_edits(results)
    study_id = find_study(results)
    folder = Folder(results)
    write_sequences(folder, make_row, WALKS[:3], study_id)
    folder.publish()
    both = published(results, study_id)
    names = parts_of(both)
    assert [name for name in names if name not in SEQUENCE_PARTS] == parts_of(demo)
    assert names.index("worst") < names.index("sequences") < names.index("models")
    assert "lasting" not in names  # nobody was asked
    said = headline(both.found)
    assert said.startswith("Of 3 sequences of 40 edits 3 collapsed; first: ROME after 10 edits")
    assert "ROME collapsed 51 of 55 first-token edits" in said


def test_table_has_the_collapses_by_editor(alone):
    """Counts, medians, intervals and what is alive, as the views say."""
    cells = Page(report_html(alone.found, alone.shown)).cells["sequences"]
    by_editor = {
        tuple(line[:2]): [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in line[2:]]
        for line in cells[1:]
    }
    assert list(by_editor) == [
        ("tiny", "ROME"),
        ("tiny", "MEMIT"),
        ("tiny", "AlphaEdit"),
        ("tiny", "FT"),
        ("other", "ROME"),
    ]
    assert by_editor["tiny", "ROME"] == [
        "3 of 3",
        "20",
        "10 to not reached",
        "10",
        "30",
        "0 % (0 to 56.1 %)",
        "25 %",
        "4",
    ]
    assert by_editor["tiny", "MEMIT"][:6] == [
        "2 of 4",
        "40",
        "30 to not reached",
        "40",
        "not reached",
        "33.3 % (0.9 to 77.4 %)",
    ]
    assert by_editor["other", "ROME"][6] == ""


def test_tables_of_success_and_forecast(alone):
    """What is lost has an interval where there are orders; a held-out editor has its bound."""
    page = Page(report_html(alone.found, alone.shown))
    lost = {
        (line[1], line[2]): line[-1].replace("\N{NO-BREAK SPACE}", " ")
        for line in page.cells["lasting"][1:]
    }
    assert lost["ROME", "efficacy"] == "75 % (75 to 75 %)"
    assert lost["AlphaEdit", "efficacy"] == "75 %"
    assert lost["AlphaEdit", "locality"] == "50 %"
    told = {tuple(line[:2]): line[2:] for line in page.cells["sequence-forecast"][1:]}
    assert told["tiny", "ROME"] == ["0.8", "3", "3", "3", "0", "0", "0", "10"]
    assert told["tiny", "FT"] == ["0.8", "1", "0", "0", "0", "1", "0", ""]
    assert told["other", "ROME"] == ["none", "3", "3", "", "", "", "", ""]


def test_every_table_is_what_its_sql_answers(alone):
    """Each block of SQL runs as it stands, and gives the rows of the table above it."""
    page = Page(report_html(alone.found, alone.shown))
    for name in SEQUENCE_PARTS:
        frame = ask(alone.results, page.sql[name])
        assert [line[0] for line in page.cells[name][1:]] == frame["model"].to_list()
    for sql in page.figure_sql:
        assert ask(alone.results, sql).height


def test_markdown_says_the_same(alone):
    """The run page's report has the parts, with the SQL that answers them."""
    text = report_markdown(alone.found)
    assert "## Sequences of edits" in text
    assert "| tiny | AlphaEdit | 0 of 1 | not reached |" in text
    assert "collapse_step_by_editor(\n    threshold := 1000, ratio := 10" in text


def test_figures_are_valid_and_finite(alone):
    """A panel a model; specifications are Vega-Lite's; no text, no colour; rows are JSON."""
    figures = figures_of(alone)
    assert [panel.label for panel in figures["figure-survival"].panels] == ["tiny", "other"]
    assert [panel.model for panel in figures["figure-drift"].panels] == ["tiny"] * 2 + ["other"] * 2
    category = figure_config(THEMES[0])["range"]["category"]
    for figure in figures.values():
        for panel in figure.panels:
            assert panel.chart.to_dict(validate=True)
            assert json.loads(panel_json(panel))["columns"]
            text = json.dumps(specification(panel))
            assert "tiny" not in text
            assert "#" not in text
            for layer in specification(panel)["layer"]:
                for channel in ("color", "fill", "strokeDash"):
                    if channel in layer["encoding"]:
                        assert len(layer["encoding"][channel]["scale"]["domain"]) == len(category)


def test_survival_is_drawn_as_asked(alone):
    """Steps hold from 0 edits on; the band is the interval."""
    rows = figures_of(alone)["figure-survival"].panels[0].rows
    rome = rows.filter(editor="ROME")
    assert rome["n_edits"].to_list() == [0, 10, 20, 30, 40]
    assert rome["middle"].to_list() == pytest.approx([1, 2 / 3, 1 / 3, 0, 0])
    assert (rome["low"] <= rome["middle"]).all()
    assert (rome["middle"] <= rome["high"]).all()


def test_infinite_and_undefined_perplexities_are_at_the_end_and_counted(alone):
    """Medians that no number describes stand above all others; the caption says how many."""
    figure = figures_of(alone)["figure-sequence-perplexity"]
    assert "Medians at the upper end: 2 infinite, 2 undefined." in figure.caption
    rows = figure.panels[0].rows.filter(editor="ROME")
    assert rows["said"].to_list()[-2:] == ["infinite", "undefined"]
    assert rows["middle"].to_list()[-1] == figure.panels[0].rows["high"].max()


def test_legend_tells_families_apart(alone):
    """An entry an editor that is drawn, in the catalog's order; no two lines are alike."""
    (legend,) = figures_of(alone)["figure-survival"].legends
    assert [entry.word for entry in legend.entries] == ["ROME", "MEMIT", "AlphaEdit", "FT"]
    assert len({(entry.role, entry.dash) for entry in legend.entries}) == 4


def test_all_editors_have_a_line_of_their_own():
    """Colour and dashes of no two editors of the catalog are the same."""
    from reports.figures import _EDITOR_LINES, _EDITORS_BY_TITLE

    assert set(_EDITOR_LINES) == set(_EDITORS_BY_TITLE.values())
    assert len({(role, tuple(dash)) for role, dash in _EDITOR_LINES.values()}) == len(_EDITOR_LINES)


def test_page_of_hostile_names_is_inert(tmp_path, folder_of):
    """A model and an editor with attacks for names are text, and one order is enough."""
    folder = folder_of(tmp_path)
    write_study(folder, make_row)
    walk = Walk(ATTACK, 0, (10.0, math.inf), 0.1, method="rome", model=f"m {ATTACK}")
    write_sequences(folder, make_row, [walk])
    write_scores(folder, make_row, walk, {"a": (1.0, 0.5)})
    folder.publish()
    study = published(folder.results, "study-1")
    page = Page(report_html(study.found, study.shown))
    assert not page.tags & {"img", "iframe", "link", "form"}
    assert len(page.scripts) == 2
    assert not any("evil.example" in script for script in page.scripts)
    assert "\u202e" not in page.text
    for figure in figures_of(study).values():
        assert all("evil" not in json.dumps(specification(panel)) for panel in figure.panels)


def ended(editor="rome", n_collapsed=1, **values):
    """Return how an editor's sequences ended."""
    defaults = {
        field.name: None
        for field in dataclasses.fields(EditorSequences)
        if field.name.startswith(("median", "final", "text"))
    }
    known = {
        "model": "tiny",
        "editor": editor,
        "method": editor,
        "n_edits": 200,
        "n_collapsed": n_collapsed,
        "n_orders": 3,
        "earliest": 5 if n_collapsed else None,
        "latest": None,
        "alive": 0.5,
        "lower": 0.1,
        "upper": 0.9,
        "followed_to": 200,
        "n_guarded": 0,
        "n_unusable": 0,
    }
    return EditorSequences(**(defaults | known | values))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [ended(n_collapsed=2, median=10), ended("alphaedit", 0), ended("encore", 0)],
            (
                "Of 9 sequences of 200 edits 2 collapsed; first: ROME after 5 edits (median 10); "
                "never: AlphaEdit and ENCORE."
            ),
        ),
        (
            [ended(model="a", earliest=1), ended(n_collapsed=0, model="b", n_edits=100)],
            "Of 6 sequences of up to 200 edits 1 collapsed; first: ROME on a after 1 edit.",
        ),
        ([ended("memit", 0)], "None of 3 sequences of 200 edits collapsed its model."),
        (
            [ended(n_orders=1)],
            "Of 1 sequence of 200 edits 1 collapsed; first: ROME after 5 edits.",
        ),
    ],
)
def test_headline_says_who_collapses_first(rows, said):
    """How many of how many, the first with its median, and those that never do."""
    assert sequence_headline(rows) == said


def test_headline_of_sequences_alone(alone):
    """It speaks of no edits, and says a rule that is not the default one."""
    said = headline(alone.found)
    assert said == (
        "Of 12 sequences of 40 edits 8 collapsed; first: ROME on tiny after 10 edits (median 20); "
        "never: AlphaEdit and FT."
    )
    other = dataclasses.replace(alone.found, rule=CollapseRule(500, None))
    assert headline(other).endswith(
        "FT. Collapsed: perplexity above 500 (and not so unedited), or no finite number."
    )


def test_guard_that_acted_is_said(tmp_path, folder_of):
    """A sequence that its guard stopped is censored, which is no chance."""
    folder = folder_of(tmp_path)
    write_study(folder, make_row)
    walk = WALKS[4]
    write_sequences(folder, make_row, [walk])
    stopped = make_row(
        "sequence_steps", sequence_id=walk.sequence_id, step=9, n_edits=40, decision="stopped"
    )
    folder.write("sequence_steps", stopped)
    folder.publish()
    (row,) = editor_sequences(folder.results, "study-1")
    assert row.n_guarded == 1
    study = published(folder.results, "study-1")
    (part, *_) = illustrated_sections(study.found, study.shown)
    assert any("In 1 sequence the guard skipped" in said for said in part.section.sentences)


def test_rows_are_by_the_studys_own_rule(tmp_path, folder_of):
    """A study that states a rule is judged by it unless another is named."""
    folder = folder_of(tmp_path)
    folder.write("datasets", make_row("datasets"))
    stated = SETTINGS | {"collapse": {"threshold": None, "ratio": 40.0}}
    folder.write("studies", make_row("studies", settings=json.dumps(stated)))
    write_sequences(folder, make_row)
    folder.publish()
    own = editor_sequences(folder.results, "study-1")
    default = editor_sequences(folder.results, "study-1", DEFAULT_RULE)
    assert [row.n_collapsed for row in own] == [2, 0, 0, 0]
    assert [row.n_collapsed for row in default] == [3, 2, 0, 0]
    assert [row.editor for row in own] == ["rome", "memit", "alphaedit", "ft"]


def test_study_without_sequences_has_no_rows(demo):
    """The reader gives nothing where there is nothing."""
    assert editor_sequences(demo.results, demo.study_id) == ()
