"""The root-cause study's side of the database: outcomes to explain, and what was found."""

import dataclasses
from pathlib import Path

import polars as pl

from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.study.anatomy_jobs import RomeOutcome
from editcollapse.study.jobs import ModelOrder
from storage.database import open_snapshot, open_store
from storage.queries import query_text


@dataclasses.dataclass(frozen=True, slots=True)
class AnatomyFinding:
    """One observation on one model of a study."""

    model: str
    """Its name in the study."""
    layer: int
    grouping: str
    observation: str
    value: float
    low: float
    high: float
    n_group: int
    n_others: int
    interval: str
    statement: str


def rome_outcomes(
    results: Path, study_id: str, model: ModelOrder, rule: CollapseRule
) -> tuple[RomeOutcome, ...]:
    """Return what became of ROME's edits of one model, as the store has it.

    Args:
        results: the results folder.
        study_id: the study.
        model: the model as the study uses it.
        rule: when an edit counts as a collapse.

    Raises:
        StoreBusyError: another process keeps the store.
    """
    asked = {"study_id": study_id, "model_id": model.model_id, "layer": model.layer}
    with open_store(results) as store:
        frame: pl.DataFrame = store.sql(
            query_text("rome_outcomes"), params=asked | dataclasses.asdict(rule)
        ).pl()
    return tuple(RomeOutcome(**row) for row in frame.iter_rows(named=True))


def anatomy_findings(
    results: Path, study_id: str, rule: CollapseRule
) -> tuple[AnatomyFinding, ...]:
    """Return what was observed in a study, as last published, model by model.

    Args:
        results: the results folder.
        study_id: the study.
        rule: when an edit counted as a collapse.

    Raises:
        ResultsError: there are no results yet.
    """
    with open_snapshot(results) as snapshot:
        frame: pl.DataFrame = snapshot.sql(
            query_text("anatomy_findings"), params={"study_id": study_id} | dataclasses.asdict(rule)
        ).pl()
    names = [field.name for field in dataclasses.fields(AnatomyFinding)]
    return tuple(AnatomyFinding(**row) for row in frame.select(names).iter_rows(named=True))
