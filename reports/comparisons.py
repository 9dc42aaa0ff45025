"""The parts of a report that compare: methods and models, guard and no guard, published figures."""

import math
from collections.abc import Iterator
from typing import Any

from editcollapse.catalog.editors import editor_title
from reports.text import Section, Table, count, number, percent
from storage.ask import StudyFigures, StudyFindings

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
        return f"{editor_title(row['method_a'])} on {row['model_a']}", editor_title(row["method_b"])
    return f"{row['model_a']} under {editor_title(row['method_a'])}", row["model_b"]


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


_GUARD_FIGURES = (
    "acts from",
    "asked",
    "as asked",
    "switched",
    "prefixed",
    "refused",
    "collapsed",
    "worst perplexity ratio",
)
_POLICIES = {
    "refuse": "refuses them",
    "switch": "lets another method make them where one is safe, and refuses others",
    "prefix": "puts a text before the prompt where they are safe behind one, and refuses others",
}


def guarded(found: StudyFindings) -> Iterator[Section]:
    """Yield the part, where the study has a guard that has decided."""
    rows = list(found.guard.frame.iter_rows(named=True))
    if not rows:
        return
    yield Section(
        name="guard",
        title="What the guard did",
        sentences=(_scope(rows[0]), *(_guard_sentence(row) for row in rows)),
        table=Table(
            columns=("model", "method asked", "thresholds of", *_GUARD_FIGURES),
            rows=tuple(_guard_cells(row) for row in rows),
            numeric=frozenset(_GUARD_FIGURES),
        ),
        sql=found.guard.sql,
    )


def _scope(row: dict[str, Any]) -> str:
    """Return the guard's rule and its policy."""
    looks_for = "are at risk" if row["acts_at"] == "at risk" else "are likely to collapse the model"
    return (
        f"The guard acts on edits that {looks_for} by their forecast: it "
        f"{_POLICIES[row['policy']]}."
    )


def _acts_from(row: dict[str, Any]) -> float:
    """Return the change bound from which on the guard acts."""
    return float(row["at_risk_at"] if row["acts_at"] == "at risk" else row["collapse_at"])


def _origin(calibration_id: str) -> str:
    """Return the origin of a model's thresholds."""
    origins = {"default": "the default", "study file": "the study file"}
    return origins.get(calibration_id, f"calibration {calibration_id[:8]}")


def _guard_sentence(row: dict[str, Any]) -> str:
    """Return a sentence on the decisions about one method's edits of one model."""
    done = [
        f"{count(row[name])} {words}"
        for name, words in (
            ("n_made", "made as asked"),
            ("n_switched", "made by another method"),
            ("n_prefixed", "made with a text before the prompt"),
            ("n_refused", "refused"),
        )
        if row[name]
    ]
    outcome = "none that was measured collapses the model"
    if not row["n_measured"]:
        outcome = "none is measured"
    elif row["n_collapsed"]:
        outcome = f"{count(row['n_collapsed'])} of those that were made collapse the model"
    return (
        f"Of {count(row['n_asked'])} {editor_title(row['method'])} edits of {row['model']}, "
        f"{', '.join(done)}; {outcome}."
    )


def _guard_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a line of the table."""
    names = ("n_asked", "n_made", "n_switched", "n_prefixed", "n_refused", "n_collapsed")
    figures = (count(row[name]) for name in names)
    return (
        row["model"],
        editor_title(row["method"]),
        _origin(row["calibration_id"]),
        number(_acts_from(row)),
        *figures,
        number(row["max_perplexity_ratio"]),
    )


def published(shown: StudyFigures) -> Iterator[Section]:
    """Yield published figures of the study's models, where the same quantity was measured here."""
    rows = list(shown.published.frame.iter_rows(named=True))
    if not rows:
        return
    figures = ("published", "edits here", "smallest", "median", "largest")
    yield Section(
        name="published",
        title="Published figures beside ours",
        sentences=(
            (
                "Ours are all edits of the same model in these results, of this study and of "
                "others, by method and second moment where the source does not say."
            ),
        ),
        table=Table(
            columns=("source", "model", "quantity", "method", "C", *figures, "remark"),
            rows=tuple(
                (
                    f"{row['work']}, {row['place']}",
                    row["model"],
                    row["metric"],
                    editor_title(row["method"] or ""),
                    row["covariance"] or "",
                    _with_unit(row["published_value"], row["unit"]),
                    count(row["n_edits"]),
                    *(number(row[name]) for name in ("minimum", "median", "maximum")),
                    row["remark"] or "",
                )
                for row in rows
            ),
            numeric=frozenset(figures),
        ),
        sql=shown.published.sql,
    )


def _with_unit(value: float, unit: str) -> str:
    """Return a figure with its unit, where it has one."""
    return number(value) if unit in {"none", ""} else f"{number(value)} {unit}"
