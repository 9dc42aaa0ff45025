"""The GPU task that forecasts at many layers: one forward of a batch, and no optimisation."""

from editcollapse.orders import Manifest
from editcollapse.sweep_orders import SweepOrder
from tasks.units import unit_task


@unit_task(
    name="sweep-batch",
    run_name="sweep {order.label}",
    description="Read a batch's keys at every layer in one forward; bound every method's updates.",
)
def sweep_layers(order: SweepOrder) -> Manifest:
    """Return a batch of forecasts at every layer as a manifest."""
    from editcollapse.once import computed_once
    from editcollapse.sweeping import sweep_batch

    return computed_once(order, lambda: sweep_batch(order))
