"""Free answers of one model's edits, as jobs of a study's run: generated, then judged."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from editcollapse.study.answer_jobs import AnswersJob, ModelAnswers
from editcollapse.study.jobs import EditJob, Manifest
from editcollapse.study.plan import ModelPlan
from editcollapse.study.sequence_jobs import EditorBatchJob
from tasks.generation import answer_freely, judge_answers

if TYPE_CHECKING:
    from flows.run.study_run import StudyRun


class AnswersRun:
    """Free answers of one model; nothing where the study does not ask for them.

    Args:
        run: the pass through the study's plan; it has listed ``ModelAnswers.n_jobs``.
        model: the model.
    """

    def __init__(self, run: "StudyRun", model: ModelPlan) -> None:
        self._run = run
        self._answers = ModelAnswers(run.plan, model)
        self._jobs: list[AnswersJob] = []

    def add(self, batch: EditJob | EditorBatchJob, done: Manifest) -> None:
        """Note one more batch of edits, to be asked in the end.

        Args:
            batch: the edits.
            done: what their unit returned.
        """
        job = self._answers.job(batch, done)
        if job is not None:
            self._jobs.append(job)

    def finish(self) -> None:
        """Let the noted edits answer, as many batches at once as there are workers."""
        run, n_judged = self._run, 0
        waiting: deque[tuple[AnswersJob, Callable[[], Manifest]]] = deque()
        for job in self._jobs:
            waiting.append((job, run.start(answer_freely, job)))
            if len(waiting) > run.plan.study.runner.workers:
                n_judged += self._enter(*waiting.popleft())
        for job, wait in waiting:
            n_judged += self._enter(job, wait)
        run.listed.correct(self._answers.n_jobs, len(self._jobs) + n_judged)

    def _enter(self, job: AnswersJob, wait: Callable[[], Manifest]) -> int:
        """Wait for a batch's answers and have them judged; return how many judge's jobs ran."""
        done = wait()
        self._run.rows.add(done.rows)
        judged = self._answers.judge_job(job, done)
        if judged is None:
            return 0
        self._run.rows.add(self._run.compute(judge_answers, judged).rows)
        return 1
