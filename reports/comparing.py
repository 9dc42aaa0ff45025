"""The part of a report that compares methods and models, request by request."""

import math
from collections.abc import Iterator
from typing import Any

from reports.sections import Section, Table
from reports.wording import count, number, percent
from storage.findings import StudyFindings

_FIGURES = ("pairs", "before", "after", "change", "95 % interval")
_SHARES = {"collapsed", "efficacy", "locality"}
_WORDS = {
    "collapsed": "edits that collapse the model",
    "log10_perplexity_ratio": "perplexity ratio",
}
_SCOPE = (
    "Each line compares edits of the same requests: the study's first method with another one on "
    "the same model, or its first model with another one under the same method."
)
_FACTOR = "\N{MULTIPLICATION SIGN}"


def comparison(found: StudyFindings) -> Iterator[Section]:
    """Yield the part, where a study has two methods or two models measured on one request."""
    rows = list(found.comparison.frame.iter_rows(named=True))
    if not rows:
        return
    yield Section(
        name="compare",
        title="Methods and models compared",
        sentences=(
            _SCOPE,
            *(sentence for row in rows for sentence in _sentence(row)),
        ),
        table=Table(
            columns=("instead of", "it is", "quantity", *_FIGURES),
            rows=tuple(_cells(row) for row in rows),
            numeric=frozenset(_FIGURES),
        ),
        sql=found.comparison.sql,
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a line of the table."""
    before, after = _sides(row)
    return (
        before,
        after,
        _WORDS.get(row["quantity"], row["quantity"]),
        count(row["n_pairs"]),
        _value(row, row["value_a"]),
        _value(row, row["value_b"]),
        _change(row, row["difference"]),
        "" if row["low"] is None else f"{_change(row, row['low'])} to {_change(row, row['high'])}",
    )


def _sides(row: dict[str, Any]) -> tuple[str, str]:
    """Return both sides in words."""
    if row["differs"] == "method":
        return f"{row['method_a']} on {row['model_a']}", row["method_b"]
    return f"{row['model_a']} under {row['method_a']}", row["model_b"]


def _sentence(row: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence where the share of edits that collapse has surely changed."""
    if row["quantity"] != "collapsed" or row["low"] is None or row["low"] <= 0 <= row["high"]:
        return
    before, after = _sides(row)
    yield (
        f"{after} instead of {before}: {percent(row['value_b'])} instead of "
        f"{percent(row['value_a'])} of the same {count(row['n_pairs'])} requests collapse the "
        f"model, a change of {_change(row, row['difference'])} (95\N{NO-BREAK SPACE}% interval "
        f"{_change(row, row['low'])} to {_change(row, row['high'])})."
    )


def _value(row: dict[str, Any], value: float) -> str:
    """Return a side's value: a share in percent, a perplexity ratio as such."""
    return percent(value) if row["quantity"] in _SHARES else number(_power(value))


def _change(row: dict[str, Any], value: float) -> str:
    """Return a change: points of percent, or the factor of a ratio."""
    if row["quantity"] in _SHARES:
        return f"{100 * value:+.1f} points"
    return f"{_FACTOR}{number(_power(value))}"


def _power(logarithm: float) -> float:
    """Return 10 to a power; infinite where no float is as large."""
    try:
        return math.pow(10.0, logarithm)
    except OverflowError:
        return math.inf
