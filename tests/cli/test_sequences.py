"""Sequences of edits on a terminal: who collapses when, and what is not reached."""

import re

import pytest
from rich.cells import cell_len

from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule
from flows.cli.output.sequences import print_sequences
from storage.readers import EditorSequences

_STYLES = re.compile(r"\x1b\[[0-9;]*m")


def ended(editor, n_collapsed=0, n_orders=3, **values):
    """Return how an editor's sequences ended; without a collapse unless values say so."""
    known = {
        "model": "gpt2-induced",
        "method": editor,
        "n_edits": 200,
        "median": None,
        "median_low": None,
        "median_high": None,
        "earliest": None,
        "latest": None,
        "alive": 1.0,
        "lower": 0.438,
        "upper": 1.0,
        "followed_to": 200,
        "final_efficacy": 0.905,
        "text_change": 0.12345,
        "n_guarded": 0,
        "n_unusable": 0,
    }
    return EditorSequences(
        editor=editor, n_collapsed=n_collapsed, n_orders=n_orders, **(known | values)
    )


ROWS = (
    ended("rome", 3, median=10, earliest=5, latest=20, alive=0.0, lower=0.0, upper=0.56),
    ended("memit", 1, earliest=150, alive=2 / 3, lower=0.05, upper=0.95),
    ended("alphaedit", final_efficacy=None, text_change=None),
    ended("rome", model="\x1b[31mother", text_change=float("inf")),
)


@pytest.fixture
def told(monkeypatch, capsys):
    """Return a function that gives what is printed at a width, without styles."""

    def show(rows, width, rule=DEFAULT_RULE):
        monkeypatch.setenv("COLUMNS", str(width))
        print_sequences(rows, rule)
        out = _STYLES.sub("", capsys.readouterr().out)
        assert all(cell_len(line) <= width for line in out.splitlines()), out
        return out

    return show


def test_line_says_when_half_have_collapsed(told):
    """Median with range; above the last checkpoint where too few collapse."""
    lines = [" ".join(line.split()) for line in told(ROWS, 140).splitlines()]
    assert lines[0] == "sequences of edits (perplexity above 1000, or above 10 x unedited)"
    assert "gpt2-induced rome 3 of 3 10 (5 to 20) 0 % (0 to 56) 90 % 0.123" in lines
    assert "gpt2-induced memit 1 of 3 >200 (150 to >200) 67 % (5 to 95) 90 % 0.123" in lines
    assert "gpt2-induced alphaedit 0 of 3 >200 100 % (44 to 100) - -" in lines


def test_hostile_name_is_written_out(told):
    """A control character in a model's name does not reach the terminal."""
    assert "\\x1b[31mother" in told(ROWS, 140)
    assert " inf" in told(ROWS, 140)


def test_narrow_terminal_has_records(told):
    """Nothing is cut where the table does not fit."""
    out = told(ROWS, 60)
    assert "-- row 1 --" in out
    assert "median edits until collapse = 10 (5 to 20)" in out


def test_ordinary_terminal_has_fewer_columns(told):
    """At 80 columns the collapses and what is alive; the rest is in the report."""
    out = told(ROWS, 80)
    assert "row 1" not in out
    assert "efficacy" not in out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "gpt2-induced rome 3 of 3 10 (5 to 20) 0 % (0 to 56)" in lines


def test_rule_is_said_and_nothing_without_sequences(told):
    """The rule stands in the heading; a study without sequences has no heading."""
    assert "exp(mean NLL), above 2 x unedited" in told(ROWS, 140, CollapseRule(None, 2, "nll"))
    assert not told((), 140)
