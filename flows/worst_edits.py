"""What a model writes after the edits that damage it most: one unit, when its batches are done."""

from collections.abc import Sequence
from typing import Protocol

from editcollapse.artifacts import ArtifactRef
from editcollapse.continuation_orders import MostDamaging
from editcollapse.planning import ModelPlan, StudyPlan
from flows.covariance import Runner
from tasks.continuing import continue_edits


class Rows(Protocol):
    """What takes row files for the database; ``bookkeeping.RowsToRecord`` is one."""

    def add(self, rows: Sequence[ArtifactRef]) -> None:
        """Take more row files."""


def continuation_units(plan: StudyPlan) -> int:
    """Return how many units of this kind each model has, if it takes any request at all."""
    return int(plan.study.evaluation.continuations > 0)


def continue_worst(
    run: Runner, rows: Rows, plan: StudyPlan, model: ModelPlan, worst: MostDamaging
) -> None:
    """Let a model go on from the prompts of its worst edits; hand the rows to the database."""
    order = worst.order(plan.results, model.order)
    if order is None:
        run.expect(-continuation_units(plan))
        return
    rows.add(run.compute(continue_edits, order).rows)
