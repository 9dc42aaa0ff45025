"""Tables of docs/sequences.md, from the rows that are checked in; empty where they have none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from editcollapse.catalog.editors import editor_title
from scripts.markdown import cell, table
from scripts.queries import ask_own
from storage.ask import ask
from storage.schema import SQL

_STUDIES = ("sequence_real", "sequence_demo", "sequence_control")
"""Studies whose sequences are shown, the real model's first."""
_GUARDED = "sequence_guarded"
"""The study of sequences that a guard looks after."""
_LONG = "sequence_long"
"""The study of sequences until a collapse."""
_AT_ONCE = "sequence_batches"
"""The study of several numbers of edits a step."""
_BOUND = SQL / "recipes" / "33_sequence_bound.sql"
_DOUBLED = 2.0
_NONE = "-"


def ends(results: Path) -> str:
    """Return how sequences end, a line a model and editor."""
    return _ends(results, _STUDIES)


def until_collapse(results: Path) -> str:
    """Return how sequences end that go on until the model has collapsed, a line an editor."""
    return _ends(results, (_LONG,))


def _ends(results: Path, studies: tuple[str, ...]) -> str:
    head = (
        *("model", "editor", "collapsed", "edits until collapse", "alive at the end"),
        *("perplexity above 3x", "edits until then", "ratio at the end"),
        *("efficacy", "generalization", "locality", "text change"),
    )
    return _table(
        head,
        (
            (
                *_names(row, "editor"),
                f"{row['n_collapsed']} of {row['n_orders']}",
                _until(row),
                f"{row['alive']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})",
                f"{row['n_tripled']} of {row['n_orders']}",
                _until(row, "_tripled"),
                cell(row["perplexity_ratio"]),
                *map(_share, (row["efficacy"], row["generalization"], row["locality"])),
                cell(row["text_change"]),
            )
            for row in _rows(results, "sequence_ends", studies)
        ),
    )


def guarded(results: Path) -> str:
    """Return how sequences end that a guard looks after, a line an editor."""
    head = (
        *("model", "editor", "edits", "left out", "collapsed", "ratio at the end"),
        *("efficacy", "generalization", "locality", "text change"),
    )
    return _table(
        head,
        (
            (
                *_names(row, "method"),
                str(row["followed_to"]),
                _known(row["n_refused"]),
                f"{row['n_collapsed']} of {row['n_orders']}",
                cell(row["perplexity_ratio"]),
                *map(_share, (row["efficacy"], row["generalization"], row["locality"])),
                cell(row["text_change"]),
            )
            for row in _rows(results, "sequence_ends", (_GUARDED,))
        ),
    )


def at_once(results: Path) -> str:
    """Return how sequences of several edits a step end, a line an editor and number."""
    head = (
        *("model", "editor", "edits a step", "collapsed", "perplexity above 3x"),
        *("ratio at the end", "efficacy", "generalization", "locality", "text change"),
    )
    return _table(
        head,
        (
            (
                *_names(row, "method"),
                str(row["edits_per_step"]),
                f"{row['n_collapsed']} of {row['n_orders']}",
                f"{row['n_tripled']} of {row['n_orders']}",
                cell(row["perplexity_ratio"]),
                *map(_share, (row["efficacy"], row["generalization"], row["locality"])),
                cell(row["text_change"]),
            )
            for row in _rows(results, "sequence_ends", (_AT_ONCE,))
        ),
    )


def single_edits(results: Path) -> str:
    """Return single edits of the same studies, a line a model and editor."""
    head = (
        *("model", "editor", "collapsed", "above 2x", "worst ratio"),
        *("efficacy", "generalization", "locality", "text change"),
    )
    return _table(
        head,
        (
            (
                *_names(row, "method"),
                f"{row['n_collapsed']} of {row['n_edits']}",
                str(row["n_doubled"]),
                cell(row["largest"]),
                *map(_share, (row["efficacy"], row["generalization"], row["locality"])),
                cell(row["text_change"]),
            )
            for row in _rows(results, "single_edits", _STUDIES)
        ),
    )


def forecast(results: Path) -> str:
    """Return how the change on text tells of an editor left out when perplexity triples."""
    rows = _rows(results, "sequence_forecast", _STUDIES)
    return _forecast([row for row in rows if row["rule"] == "tripled"])


def long_forecast(results: Path) -> str:
    """Return how it tells of collapses in sequences that go on until then."""
    rows = _rows(results, "sequence_forecast", (_LONG,))
    return _forecast([row for row in rows if row["rule"] == "collapsed"])


def _forecast(rows: list[dict[str, Any]]) -> str:
    """Return how the change on text tells of an editor left out, a line each."""
    head = (
        *("model", "editor left out", "bound", "collapsed", "caught", "missed"),
        *("false alarms", "neither", "median lead in edits"),
    )
    counts = ("n_caught", "n_missed", "n_false_alarms", "n_quiet")
    return _table(
        head,
        (
            (
                *_names(row, "editor"),
                _known(row["bound"]),
                f"{row['n_collapsed']} of {row['n_sequences']}",
                *(_known(row[name]) for name in counts),
                _known(row["median_lead"]),
            )
            for row in rows
        ),
    )


def bound(results: Path) -> str:
    """Return the perplexities below and above the guard's bound: a recipe's answer.

    Raises:
        AssertionError: below it a perplexity has doubled, which the text around denies.
    """
    head = (
        *("study", "model", "checkpoints", "text change below 1"),
        "largest perplexity ratio there",
        *("doubled from", "tripled from", "tenfold from"),
    )
    rows = ask(results, _BOUND.read_text(encoding="utf-8")).rows()
    assert all(row[4] is None or row[4] < _DOUBLED for row in rows)
    return _table(head, (tuple(map(_known, row)) for row in rows))


def _rows(results: Path, query: str, studies: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the answer of a query, of some studies in their order."""
    found = ask_own(results, query)
    return [
        row
        for study in studies
        for row in found.filter(pl.col("study") == study).iter_rows(named=True)
    ]


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """Return a table; nothing where it has no row."""
    found = list(rows)
    return table(head, found) if found else ""


def _names(row: dict[str, Any], editor: str) -> tuple[str, str]:
    return cell(row["model"]), cell(editor_title(row[editor]))


def _until(row: dict[str, Any], rule: str = "") -> str:
    """Return the median of edits until the collapse by a rule, with the earliest and the latest."""
    if row[f"earliest{rule}"] is None:
        return _NONE
    median, latest = (
        "not reached" if row[name] is None else str(row[name])
        for name in (f"median{rule}", f"latest{rule}")
    )
    return f"{median} ({row[f'earliest{rule}']} to {latest})"


def _share(value: float | None) -> str:
    # A mean's last bits hang on the order in which threads add.
    return _NONE if value is None else f"{round(value, 9):.2f}"


def _known(value: float | str | None) -> str:
    return _NONE if value is None else cell(value)
