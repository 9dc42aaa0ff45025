"""The GPU task that measures a batch of edited models."""

from editcollapse.orders import EvaluateOrder, Manifest
from editcollapse.progress import reporter
from tasks.units import unit_task


@unit_task(
    name="evaluate-batch",
    run_name="evaluate {order.edits.label}",
    description="Measure perplexity and probes of every edited model of a batch.",
)
def evaluate_edits(order: EvaluateOrder) -> Manifest:
    """Return a batch of measurements as a manifest."""
    from editcollapse.measuring import evaluate_batch
    from editcollapse.once import computed_once

    edits = order.edits
    what = f"evaluate {edits.model.spec.name}, batch {edits.batch_label}"
    return computed_once(order, lambda: evaluate_batch(order, reporter(what)))
