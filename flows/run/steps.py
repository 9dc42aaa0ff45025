"""The steps of a run, each with the jobs that it lists: what a progress bar counts.

A total is what the plan knows before anything runs, whatever is cached, and it stays. Where a run
turns out to need fewer jobs (C is there, the corpus is short, a guard lets nothing pass), those
that fall away count as done; where it needs more (a guard parts a batch), the extra ones are not
counted.
"""

import dataclasses
from collections.abc import Callable, Sequence

from editcollapse.runtime.environment import OVERALL, Report, tell
from editcollapse.study.answer_jobs import ModelAnswers
from editcollapse.study.model_editors import ModelEditors
from editcollapse.study.plan import CovariancePlan, ModelPlan, StudyPlan, checkpoints

Count = Callable[[StudyPlan, ModelPlan], int]


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A part of the work on one model."""

    listed: Count
    """Jobs of a model, as many as the plan knows of."""
    per_batch: int = 0
    """Jobs of each batch of edits that is made; a guard makes none, one or several of a batch."""


def moment_jobs(layers: Sequence[CovariancePlan]) -> int:
    """Return the jobs of C of some layers that one pass over the corpus serves, at most.

    Own samples, corpus, probe keys, the shards' sums and a merge a layer; with a stop rule each
    layer asks for shards of its own and looks at them in between.
    """
    moments, n_layers = layers[0], len(layers)
    spec = moments.moment.covariance
    if not spec.is_measured:
        return n_layers
    n_shards, n_shared = moments.n_shards_at_most, 2 + moments.n_sample_jobs
    if spec.stop_change is None:
        return n_shared + n_shards + n_layers
    return n_shared + n_layers * (n_shards + len(checkpoints(n_shards)) + 1)


def _rank_one_batches(plan: StudyPlan, _model: ModelPlan) -> int:
    """Return the batches that rank-one methods edit."""
    return plan.n_batches if plan.study.rank_one_methods else 0


def _texts(plan: StudyPlan, _model: ModelPlan) -> int:
    return int(plan.study.evaluation.continuations > 0 and bool(plan.study.rank_one_methods))


def _moments(plan: StudyPlan, model: ModelPlan) -> int:
    return moment_jobs(ModelEditors(plan, model).covariance_plans())


TEMPLATES = Step(lambda _plan, _model: 1)
COVARIANCE = Step(_moments)
UNEDITED = Step(lambda _plan, _model: 1)
FORECAST = Step(lambda plan, _model: plan.n_batches)
GUARD = Step(lambda plan, model: 0 if model.guard is None else plan.n_batches)
EDIT = Step(_rank_one_batches, per_batch=1)
EVALUATE = Step(_rank_one_batches, per_batch=1)
TEXTS = Step(_texts)
EDITORS = Step(lambda plan, model: ModelEditors(plan, model).n_jobs(singly=True))
ANSWERS = Step(lambda plan, model: ModelAnswers(plan, model).n_jobs)
SEQUENCES = Step(lambda plan, model: ModelEditors(plan, model).n_jobs(singly=False))

PREPARE = (TEMPLATES, COVARIANCE)
STUDY = (*PREPARE, UNEDITED, GUARD, EDIT, EVALUATE, TEXTS, EDITORS, ANSWERS)
ONLY_SEQUENCES = (*PREPARE, UNEDITED, SEQUENCES)


class JobList:
    """The jobs that a run has listed, and how many of them are done; reported as they change.

    Args:
        n_jobs: all of them.
    """

    def __init__(self, n_jobs: int) -> None:
        self._n_jobs = n_jobs
        self._n_extra = 0
        self.n_done = 0
        """Listed jobs that are done, or have fallen away."""
        self._tell()

    def finish_one(self) -> None:
        """Count a job as done, unless it is one more than were listed."""
        if self._n_extra:
            self._n_extra -= 1
        else:
            self._finish(1)

    def correct(self, listed: int, needed: int) -> None:
        """Say that fewer jobs, or more, have to run than were listed for them.

        Args:
            listed: so many are in the total.
            needed: so many will be done.
        """
        self._n_extra += max(0, needed - listed)
        if listed > needed:
            self._finish(listed - needed)

    def _finish(self, n_jobs: int) -> None:
        self.n_done += n_jobs
        self._tell()

    def _tell(self) -> None:
        tell(Report(OVERALL, self.n_done, self._n_jobs, "job"))
