"""The report's comparison says what view compare says, and is left out where there is none."""

import polars as pl
import pytest

from reports.page import report_html, report_markdown
from reports.sections import report_sections
from scripts.demo_rows import ROWS, unpack
from storage.ask import ask, find_study, findings
from tests.reports.whole_study import of_the_demo


@pytest.fixture(scope="module")
def results(demo):
    """Return a results folder of the demo study."""
    return demo.results


@pytest.fixture(scope="module")
def section(results):
    """Return the part of the demo study's report."""
    found = findings(results, find_study(results))
    (part,) = [part for part in report_sections(found) if part.name == "compare"]
    return part


def test_methods_and_models_are_compared_with_the_first(section):
    """Three models have two other methods each, three methods two other models, four quantities."""
    assert len(section.table.rows) == 4 * (3 * 2 + 3 * 2)
    first = {row[:2] for row in section.table.rows}
    assert ("ROME on gpt2-induced", "C-ROME") in first
    assert ("gpt2-induced under ROME", "gpt2-control") in first
    assert not [
        sides for sides in first if sides[0].startswith(("C-ROME on", "gpt2-control under"))
    ]


def test_lines_say_what_the_database_says(results, section):
    """The figures of a line are those of its row, in points of percent or as a factor."""
    (row,) = ask(
        results,
        "from compare where model_a = 'gpt2-induced' and model_b = model_a and method_a = 'rome' "
        "and method_b = 'c_rome' and quantity = 'collapsed'",
    ).rows(named=True)
    lines = {(*cells[:2], cells[2]): cells[3:] for cells in section.table.rows}
    line = lines["ROME on gpt2-induced", "C-ROME", "edits that collapse the model"]
    assert line[0] == "128"
    assert line[3] == f"{100 * row['difference']:+.1f} points"
    assert line[4] == f"{100 * row['low']:+.1f} points to {100 * row['high']:+.1f} points"
    assert lines["ROME on gpt2-induced", "C-ROME", "perplexity ratio"][3].startswith("×")


def test_sure_changes_are_sentences(section):
    """Only where the interval excludes no change there is a sentence."""
    said = [text for text in section.sentences if "requests collapse" in text]
    assert len(said) == 6
    assert said[0].startswith(
        "C-ROME instead of ROME on gpt2-induced: 0\N{NO-BREAK SPACE}% instead"
    )
    assert not [text for text in said if "on gpt2-control:" in text]


def test_pages_have_the_part(demo, results, section):
    """HTML and Markdown show it, with the SQL to copy, which gives the rows again."""
    assert '<section id="compare">' in report_html(demo.found, demo.shown)
    assert f"## {section.title}" in report_markdown(demo.found)
    assert ask(results, section.sql).height == len(section.table.rows)


def test_one_method_on_one_model_has_no_part(results, tmp_path, monkeypatch):
    """A study of a single side has nothing to compare, and the report says nothing of it."""
    for path in ROWS.glob("*.parquet"):
        frame = of_the_demo(path)
        if path.stem == "edits":
            model = of_the_demo(ROWS / "study_models.parquet")["model_id"][0]
            frame = frame.filter(pl.col("method") == "rome", pl.col("model_id") == model)
        frame.write_parquet(tmp_path / path.name)
    monkeypatch.setattr("scripts.demo_rows.ROWS", tmp_path)
    unpack(tmp_path / "results")
    found = findings(tmp_path / "results", find_study(tmp_path / "results"))
    assert found.comparison.frame.is_empty()
    assert "compare" not in [part.name for part in report_sections(found)]
