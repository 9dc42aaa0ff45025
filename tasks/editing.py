"""The GPU task that edits: one v* a request, and every method's update from it."""

from editcollapse.runtime.environment import reporter
from editcollapse.study.jobs import EditOrder, Manifest
from tasks.units import unit_task


@unit_task(
    name="edit-batch",
    run_name="edit {order.label}",
    description="Optimise v* for a batch of requests and make every method's rank-one update.",
)
def apply_edits(order: EditOrder) -> Manifest:
    """Return a batch of updates as a manifest."""
    from editcollapse.units.edit import edit_batch

    what = f"edit {order.model.spec.name}, batch {order.batch_label}"
    return edit_batch(order, reporter(what))
