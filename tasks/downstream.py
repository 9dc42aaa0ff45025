"""The GPU task of downstream tasks: one task of lm-evaluation-harness, asked of one model."""

from editcollapse.runtime.environment import begun
from editcollapse.study.downstream_jobs import DownstreamJob
from editcollapse.study.jobs import Manifest
from tasks.units import unit_task


@unit_task(
    name="downstream-task",
    run_name="downstream {job.label}",
    description="Ask a downstream task of a model with an update in its weights.",
)
def ask_task(job: DownstreamJob) -> Manifest:
    """Return a task's scores as a manifest."""
    from editcollapse.units.downstream import score_downstream

    return score_downstream(job, begun(job.label, "request"))
