"""The GPU task that judges an edited model, whoever made it."""

from editcollapse.runtime.environment import Report, tell
from editcollapse.study.check_jobs import CheckJob
from editcollapse.study.jobs import Manifest
from tasks.units import unit_task


@unit_task(
    name="check-model",
    run_name="check {job.label}",
    description="Compare an edited model with the one that it was made from; measure both.",
)
def judge_edited(job: CheckJob) -> Manifest:
    """Return what a check has found as a manifest."""
    from editcollapse.units.check import judge_model

    tell(Report(f"check of {job.label}"))
    return judge_model(job)
