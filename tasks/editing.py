"""The GPU task that edits: one v* a request, and every method's update from it."""

from editcollapse.runtime.environment import begun
from editcollapse.study.jobs import EditJob, Manifest
from tasks.units import unit_task


@unit_task(
    name="edit-batch",
    run_name="edit {job.label}",
    description="Optimise v* for a batch of requests and make every method's rank-one update.",
)
def apply_edits(job: EditJob) -> Manifest:
    """Return a batch of updates as a manifest."""
    from editcollapse.units.edit import edit_batch

    what = f"{job.model.spec.name}: v* of edit batch {job.batch_label}"
    return edit_batch(job, begun(what, "step"))
