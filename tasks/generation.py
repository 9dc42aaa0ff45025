"""The tasks of free generation: answers of edited models, and a judge of them."""

from editcollapse.runtime.environment import begun
from editcollapse.study.answer_jobs import AnswersJob, JudgeJob
from editcollapse.study.jobs import Manifest
from tasks.units import unit_task


@unit_task(
    name="answer-freely",
    run_name="answers of {job.label}",
    description="Let every edited model of a batch, and the unedited one, answer freely.",
)
def answer_freely(job: AnswersJob) -> Manifest:
    """Return a batch's free answers as a manifest."""
    from editcollapse.units.free_answers import answer_freely as answer

    return answer(job, begun(f"answers of {job.label}", "token"))


@unit_task(
    name="judge-answers",
    run_name="judge {job.label}",
    description="Ask a judge about a batch's free answers.",
)
def judge_answers(job: JudgeJob) -> Manifest:
    """Return a judge's replies as a manifest."""
    from editcollapse.units.judging import judge_answers as judge

    return judge(job, begun(f"judge {job.label}", "answer"))
