"""Read what became of one edit that was asked for on the command line."""

import dataclasses
from pathlib import Path

from storage.calibration import published
from storage.queries import query_text


@dataclasses.dataclass(frozen=True, slots=True)
class ToldEdit:
    """One edit: its forecast, what was decided, and what the edit that was made did."""

    study: str
    study_id: str
    model: str
    layer: int
    method: str
    subject: str
    prompt: str
    target_new: str
    verdict: str
    """On the edit as asked."""
    text_change_bound: float
    at_risk_at: float
    collapse_at: float
    calibration_id: str
    policy: str | None
    """None without a guard."""
    decision: str
    reason: str
    edit_id: str | None
    """None where it was refused, as all that follows."""
    made_method: str | None
    made_prompt: str | None
    perplexity_before: float | None
    perplexity: float | None
    perplexity_ratio: float | None
    efficacy: float | None
    efficacy_prefix_mean: float | None


def told_edit(results: Path, study_id: str) -> ToldEdit | None:
    """Return what became of a study's only edit; None where its model cannot take the request.

    Raises:
        ResultsError: there are no results.
    """
    with published(results) as snapshot:
        found = snapshot.sql(query_text("told_edit"), params={"study_id": study_id}).pl()
    return ToldEdit(**found.row(0, named=True)) if found.height else None


def rejection_of(results: Path, study_id: str) -> str:
    """Return why the model of such a study cannot take its request.

    Raises:
        ResultsError: there are no results.
    """
    with published(results) as snapshot:
        found = snapshot.sql(query_text("told_rejection"), params={"study_id": study_id}).pl()
    return str(found["reason"].item())
