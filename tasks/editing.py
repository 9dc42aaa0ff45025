"""The GPU task that edits: one v* a request, and every method's update from it."""

from prefect import task
from prefect.cache_policies import CacheKeyFnPolicy

from editcollapse.orders import EditOrder, Manifest, order_key
from editcollapse.progress import reporter


@task(
    name="edit-batch",
    task_run_name="edit {order.label}",
    description="Optimise v* for a batch of requests and make every method's rank-one update.",
    cache_policy=CacheKeyFnPolicy(cache_key_fn=order_key),
    persist_result=True,
    result_serializer="json",
    tags=["gpu"],
)
def apply_edits(order: EditOrder) -> Manifest:
    """Return a batch of updates as a manifest."""
    from editcollapse.applying import edit_batch

    return edit_batch(order, reporter(f"edit {order.model.spec.name}, batch {order.batch_label}"))
