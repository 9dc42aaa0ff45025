"""The GPU tasks that forecast edits, at one layer or at many; nothing is optimised."""

from editcollapse.study.jobs import ForecastOrder, Manifest
from editcollapse.study.sweep import SweepOrder
from tasks.units import unit_task


@unit_task(
    name="forecast-batch",
    run_name="forecast {order.label}",
    description="Read the keys of a batch of requests; bound every method's update.",
)
def forecast_edits(order: ForecastOrder) -> Manifest:
    """Return a batch of forecasts as a manifest."""
    from editcollapse.units.forecast import forecast_batch

    return forecast_batch(order)


@unit_task(
    name="sweep-batch",
    run_name="sweep {order.label}",
    description="Read a batch's keys at every layer in one forward; bound every method's updates.",
)
def sweep_layers(order: SweepOrder) -> Manifest:
    """Return a batch of forecasts at every layer as a manifest."""
    from editcollapse.units.sweep import sweep_batch

    return sweep_batch(order)
