"""The GPU task that measures a batch of edited models."""

from prefect import task
from prefect.cache_policies import CacheKeyFnPolicy

from editcollapse.orders import EvaluateOrder, Manifest, order_key
from editcollapse.progress import reporter


@task(
    name="evaluate-batch",
    task_run_name="evaluate {order.edits.label}",
    description="Measure perplexity and probes of every edited model of a batch.",
    cache_policy=CacheKeyFnPolicy(cache_key_fn=order_key),
    persist_result=True,
    result_serializer="json",
    tags=["gpu"],
)
def evaluate_edits(order: EvaluateOrder) -> Manifest:
    """Return a batch of measurements as a manifest."""
    from editcollapse.measuring import evaluate_batch

    edits = order.edits
    what = f"evaluate {edits.model.spec.name}, batch {edits.batch_label}"
    return evaluate_batch(order, reporter(what))
