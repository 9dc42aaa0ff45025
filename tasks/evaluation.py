"""The GPU tasks that measure edited models: perplexity and probes, and text that they write."""

from editcollapse.runtime.environment import reporter
from editcollapse.study.generation_jobs import ContinuationOrder
from editcollapse.study.jobs import EvaluateOrder, Manifest
from tasks.units import unit_task


@unit_task(
    name="evaluate-batch",
    run_name="evaluate {order.edits.label}",
    description="Measure perplexity and probes of every edited model of a batch.",
)
def evaluate_edits(order: EvaluateOrder) -> Manifest:
    """Return a batch of measurements as a manifest."""
    from editcollapse.units.evaluate import evaluate_batch

    edits = order.edits
    what = f"evaluate {edits.model.spec.name}, batch {edits.batch_label}"
    return evaluate_batch(order, reporter(what))


@unit_task(
    name="continue-texts",
    run_name="continue {order.label}",
    description="Write on from the prompts of the most damaging edits, unedited and edited.",
)
def continue_edits(order: ContinuationOrder) -> Manifest:
    """Return the texts before and after some edits as a manifest."""
    from editcollapse.units.generate import continue_texts

    what = f"continue {order.label}"
    return continue_texts(order, reporter(what))
