"""Hostile text on the terminal: shown, not obeyed and not taken for markup."""

import logging

import polars as pl
import pytest

from editcollapse.cli.console import console
from editcollapse.rows.collapse_rule import CollapseRule
from flows.cli.command_run import _on_its_lines
from flows.cli.output.answers import print_frame
from flows.cli.output.incidence import print_incidence

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]x[/red][link=http://evil.example]y[/link]\u202e"
SHOWN = r"\x1b]0;owned\x07\x1b[2J[red]x[/red][link=http://evil.example]y[/link]\u202e"


def assert_inert(text):
    """Check that the text is shown in full, and nothing of it reaches the terminal."""
    assert SHOWN in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_query_shows_cells_and_column_names(capsys):
    """An answer's cells and column names are data."""
    print_frame(pl.DataFrame({"subject": [HOSTILE], "n": [1]}))
    assert_inert(capsys.readouterr().out)
    print_frame(pl.DataFrame({HOSTILE: ["x"]}))
    assert_inert(capsys.readouterr().out)


def test_incidence_shows_names(capsys):
    """A model's name in the database may be anything."""
    row = {
        "model": HOSTILE,
        "method": "rome",
        "subject_position": "inside",
        "n_collapsed": 0,
        "n_edits": 1,
        "n_by_mean": 0,
        "n_by_nll": 0,
        "share": 0.0,
        "wilson_low": 0.0,
        "wilson_high": 0.5,
        "max_perplexity_ratio": 1.0,
    }
    print_incidence(pl.DataFrame([row]), CollapseRule())
    assert_inert(capsys.readouterr().out)


def test_lines_show_notes_and_errors(capsys):
    """What the command prints of notes, reasons and errors is plain, and lines stay lines."""
    console().print(f"Note: {HOSTILE}\nnext", markup=False, soft_wrap=True)
    out = capsys.readouterr().out
    assert_inert(out)
    assert out.endswith("\nnext\n")


def test_log_shows_messages():
    """A warning about a record carries the record's words."""
    record = logging.LogRecord(
        "editcollapse.x", logging.WARNING, "", 0, "%s: bad", (HOSTILE,), None
    )
    assert _on_its_lines(record)
    assert record.getMessage() == f"{SHOWN}: bad"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_csv_is_plain_on_a_terminal_only(first_run, is_terminal, monkeypatch, capsys):
    """In a file CSV is the data; on a terminal control characters are written out."""
    import sys

    from flows.__main__ import main

    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    query = "select chr(27) || '[2J' as x"
    assert main(["sql", "--csv", query, "--results", str(first_run.results)]) == 0
    assert ("\x1b" in capsys.readouterr().out) is not is_terminal
