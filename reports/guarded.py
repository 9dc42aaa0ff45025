"""The part of a report that says what the study's guard did with the edits that were asked for."""

from collections.abc import Iterator
from typing import Any

from reports.sections import Section, Table
from reports.wording import count, number
from storage.findings import StudyFindings

_FIGURES = (
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
        sentences=(_scope(rows[0]), *(_sentence(row) for row in rows)),
        table=Table(
            columns=("model", "method asked", "thresholds of", *_FIGURES),
            rows=tuple(_cells(row) for row in rows),
            numeric=frozenset(_FIGURES),
        ),
        sql=found.guard.sql,
    )


def _scope(row: dict[str, Any]) -> str:
    """Return what the guard looks for and what it then does."""
    looks_for = "are at risk" if row["acts_at"] == "at risk" else "will collapse the model"
    return (
        f"The guard acts on edits that {looks_for} by their forecast: it "
        f"{_POLICIES[row['policy']]}."
    )


def _acts_from(row: dict[str, Any]) -> float:
    """Return the change bound from which on the guard acts."""
    return float(row["at_risk_at"] if row["acts_at"] == "at risk" else row["collapse_at"])


def _origin(calibration_id: str) -> str:
    """Return where a model's thresholds come from."""
    origins = {"default": "the default", "study file": "the study file"}
    return origins.get(calibration_id, f"calibration {calibration_id[:8]}")


def _sentence(row: dict[str, Any]) -> str:
    """Return what became of one method's edits of one model."""
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
        f"Of {count(row['n_asked'])} {row['method']} edits of {row['model']}, "
        f"{', '.join(done)}; {outcome}."
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a line of the table."""
    names = ("n_asked", "n_made", "n_switched", "n_prefixed", "n_refused", "n_collapsed")
    figures = (count(row[name]) for name in names)
    return (
        row["model"],
        row["method"],
        _origin(row["calibration_id"]),
        number(_acts_from(row)),
        *figures,
        number(row["max_perplexity_ratio"]),
    )
