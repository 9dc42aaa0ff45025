"""The steps of a run, each with the jobs that it lists: what a progress bar counts.

A total is a count of listed jobs and only grows: a second moment lists its corpus and shards once
it is known that they have to run, and a guard lists a batch's edits once it has decided on them.
"""

import dataclasses
from collections.abc import Callable

from editcollapse.runtime.environment import OVERALL, reporter
from editcollapse.study.plan import ModelPlan, StudyPlan

Count = Callable[[StudyPlan, ModelPlan], int]


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A part of the work on one model."""

    listed: Count
    """Jobs of a model that are known before any of them runs."""
    per_batch: int = 0
    """Jobs of each batch that a guard lets be made, listed once it has decided."""


def _unguarded_batches(plan: StudyPlan, model: ModelPlan) -> int:
    return plan.n_batches if model.guard is None else 0


TEMPLATES = Step(lambda _plan, _model: 1)
COVARIANCE = Step(lambda _plan, _model: 1)
UNEDITED = Step(lambda _plan, _model: 1)
FORECAST = Step(lambda plan, _model: plan.n_batches)
GUARD = Step(lambda plan, model: plan.n_batches - _unguarded_batches(plan, model))
EDIT = Step(_unguarded_batches, per_batch=1)
EVALUATE = Step(_unguarded_batches, per_batch=1)

PREPARE = (TEMPLATES, COVARIANCE)
STUDY = (*PREPARE, UNEDITED, GUARD, EDIT, EVALUATE)


class JobList:
    """The jobs that a run has listed, and how many of them are done; reported as they change."""

    def __init__(self) -> None:
        self._listed = 0
        self._done = 0
        self._report = reporter(OVERALL)

    def add(self, n_jobs: int) -> None:
        """List more jobs."""
        self._listed += n_jobs

    def finish_one(self) -> None:
        """Count a listed job as done."""
        self._done += 1
        self._report(self._done, self._listed)
