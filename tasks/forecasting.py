"""The GPU task that forecasts: keys and bounds of a batch, and no optimisation."""

from editcollapse.forecast_orders import ForecastOrder
from editcollapse.orders import Manifest
from tasks.units import unit_task


@unit_task(
    name="forecast-batch",
    run_name="forecast {order.label}",
    description="Read the keys of a batch of requests; bound every method's update.",
)
def forecast_edits(order: ForecastOrder) -> Manifest:
    """Return a batch of forecasts as a manifest."""
    from editcollapse.forecasting import forecast_batch
    from editcollapse.once import computed_once

    return computed_once(order, lambda: forecast_batch(order))
