"""The GPU task that lets a model go on from the prompts of its most damaging edits."""

from editcollapse.continuation_orders import ContinuationOrder
from editcollapse.orders import Manifest
from editcollapse.progress import reporter
from tasks.units import unit_task


@unit_task(
    name="continue-texts",
    run_name="continue {order.label}",
    description="Write on from the prompts of the most damaging edits, unedited and edited.",
)
def continue_edits(order: ContinuationOrder) -> Manifest:
    """Return the texts before and after some edits as a manifest."""
    from editcollapse.continuing import continue_texts
    from editcollapse.once import computed_once

    what = f"continue {order.label}"
    return computed_once(order, lambda: continue_texts(order, reporter(what)))
