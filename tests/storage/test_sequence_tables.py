"""The tables of docs/sequences.md, and the rows of sequences that are checked in."""

import polars as pl
import pytest

from scripts import demo_rows, sequence_tables
from storage.ask import ask
from tests.storage.conftest import make_row as row_of
from tests.support.sequence_rows import (
    STEP,
    WALKS,
    Walk,
    write_scores,
    write_sequences,
    write_study,
)


@pytest.fixture(scope="module")
def many(folder_at, tmp_path_factory):
    """Return a folder with a study of nine sequences that the page shows; it is only read."""
    folder = folder_at(tmp_path_factory.mktemp("many"))
    write_study(folder, row_of, name="sequence_demo")
    write_sequences(folder, row_of)
    rome = WALKS[0]
    assert rome.editor == "rome"
    # c is not asked again at the checkpoint.
    scores = {"a": (1.0, 0.5), "b": (0.0, 0.25), "c": (1.0, None)}
    write_scores(folder, row_of, rome, scores, at=20)
    folder.publish()
    return folder


@pytest.fixture(scope="module")
def others(folder_at, tmp_path_factory):
    """Return a folder with another study, and no sequences."""
    folder = folder_at(tmp_path_factory.mktemp("others"))
    write_study(folder, row_of, name="demo")
    folder.publish()
    return folder


def _lines(text):
    head, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()
    ]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_ends_have_a_line_an_editor(many):
    """Medians with their range, shares with intervals; what was not reached or measured is said."""
    found = _lines(sequence_tables.ends(many.results))
    assert [row["editor"] for row in found] == ["ROME", "MEMIT", "AlphaEdit", "FT"]
    rome, memit, alphaedit, _ = found
    assert rome["collapsed"] == "3 of 3"
    assert rome["edits until collapse"] == "20 (10 to 30)"
    assert rome["alive at the end"].startswith("0.00 (0.00 to ")
    assert (rome["efficacy"], rome["locality"]) == ("0.38", "0.50")
    assert memit["collapsed"] == "2 of 4"
    assert memit["edits until collapse"] == "40 (40 to not reached)"
    assert memit["efficacy"] == "-"
    assert alphaedit["edits until collapse"] == "-"
    assert alphaedit["text change"] == "0.4"


def test_edits_at_once_are_of_their_own_study(many, folder_at, tmp_path):
    """A line an editor and number of edits a step; other studies have none there."""
    assert sequence_tables.at_once(many.results) == ""
    folder = folder_at(tmp_path)
    write_study(folder, row_of, name="sequence_batches")
    write_sequences(folder, row_of)
    folder.publish()
    found = _lines(sequence_tables.at_once(folder.results))
    assert [row["editor"] for row in found] == ["ROME", "MEMIT", "AlphaEdit", "FT"]
    assert {row["edits a step"] for row in found} == {str(STEP)}
    assert found[0]["collapsed"] == "3 of 3"


def test_guarded_sequences_say_what_was_left_out(folder_at, tmp_path):
    """The median over an editor's orders of the steps that the guard refused."""
    alive, gone = (10.0, 10.0), (10.0, 500.0)
    walks = (
        Walk("rome", 0, alive, 0.1, skipped=(1, 2)),
        Walk("rome", 1, gone, 0.1, skipped=(2, 3, 4)),
        Walk("rome", 2, alive, 0.1, skipped=(1, 2, 3, 4)),
        Walk("memit", 0, alive, 0.1),
    )
    folder = folder_at(tmp_path)
    write_study(folder, row_of, name="sequence_guarded")
    write_sequences(folder, row_of, walks)
    folder.publish()
    rome, memit = _lines(sequence_tables.guarded(folder.results))
    assert (rome["editor"], rome["left out"], rome["collapsed"]) == ("ROME", "3", "1 of 3")
    assert (memit["left out"], memit["edits"]) == ("0", "20")


def test_forecast_has_a_line_an_editor_left_out(many):
    """Counts and lead as the view has them; no bound where no other editor collapsed."""
    found = {row["editor left out"]: row for row in _lines(sequence_tables.forecast(many.results))}
    assert found["MEMIT"]["bound"] == "1"
    assert found["MEMIT"]["collapsed"] == "2 of 4"
    tripled = "sequence_forecast_by_editor(threshold := null, ratio := 3)"
    whole = ask(many.results, f"from {tripled} where editor = 'rome'")
    (lead,) = whole["median_lead"]
    assert float(found["ROME"]["median lead in edits"]) == lead


def test_guards_bound_is_held_to_what_was_measured(many, folder_at, tmp_path):
    """Below it no perplexity has doubled: where one has, there is no table that says so."""
    with pytest.raises(AssertionError):  # memit's are 5 times as large at 0.4
        sequence_tables.bound(many.results)
    folder = folder_at(tmp_path)
    write_study(folder, row_of)
    write_sequences(folder, row_of, [walk for walk in WALKS if walk.editor != "memit"])
    folder.publish()
    (found,) = _lines(sequence_tables.bound(folder.results))
    assert (found["model"], found["largest perplexity ratio there"]) == ("tiny", "1")
    assert float(found["doubled from"]) == pytest.approx(1.0)


def test_single_edits_have_a_line_a_method(tmp_path, monkeypatch):
    """On the checked-in demo rows: the collapses that the README's table has, method by method."""
    monkeypatch.setattr(sequence_tables, "_STUDIES", ("demo",))
    demo_rows.unpack(tmp_path / "results")
    found = _lines(sequence_tables.single_edits(tmp_path / "results"))
    assert [(row["model"], row["editor"]) for row in found][:2] == [
        ("gpt2-induced", "ROME"),
        ("gpt2-induced", "C-ROME"),
    ]
    assert (found[0]["collapsed"], found[0]["above 2x"]) == ("51 of 128", "55")


def test_tables_are_empty_without_such_rows(many, others):
    """Where the checked-in rows have no such study the page has no table."""
    tables = (
        *(sequence_tables.ends, sequence_tables.until_collapse, sequence_tables.single_edits),
        *(sequence_tables.forecast, sequence_tables.long_forecast, sequence_tables.bound),
        *(sequence_tables.at_once, sequence_tables.guarded),
    )
    for table in tables:
        assert table(others.results) == ""
    assert sequence_tables.single_edits(many.results) == ""


def test_rows_that_are_taken_are_those_that_a_view_reads(many, tmp_path, monkeypatch):
    """Immediate scores that no final one is compared with are left out; nothing asked changes."""
    monkeypatch.setattr(demo_rows, "ROWS", tmp_path / "rows")
    demo_rows.take(many.results)
    taken = pl.read_parquet(tmp_path / "rows" / "sequence_scores.parquet")
    assert sorted(taken.select("request_id", "moment").rows()) == [
        ("a", "final"),
        ("a", "immediate"),
        ("b", "final"),
        ("b", "immediate"),
    ]
    demo_rows.unpack(tmp_path / "results")
    for query in ("from sequence_success", "from collapse_steps", "from sequence_forecast"):
        assert ask(tmp_path / "results", query).equals(ask(many.results, query))
