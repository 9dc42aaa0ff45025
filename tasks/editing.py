"""The GPU task that edits: one v* a request, and every method's update from it."""

from editcollapse.orders import EditOrder, Manifest
from editcollapse.progress import reporter
from tasks.units import unit_task


@unit_task(
    name="edit-batch",
    run_name="edit {order.label}",
    description="Optimise v* for a batch of requests and make every method's rank-one update.",
)
def apply_edits(order: EditOrder) -> Manifest:
    """Return a batch of updates as a manifest."""
    from editcollapse.applying import edit_batch
    from editcollapse.once import computed_once

    what = f"edit {order.model.spec.name}, batch {order.batch_label}"
    return computed_once(order, lambda: edit_batch(order, reporter(what)))
