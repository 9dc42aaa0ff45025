"""The GPU tasks that forecast edits, at one layer or at many; nothing is optimised."""

from editcollapse.runtime.environment import Report, tell
from editcollapse.study.jobs import ForecastJob, Manifest
from editcollapse.study.sweep import SweepJob
from tasks.units import unit_task


@unit_task(
    name="forecast-batch",
    run_name="forecast {job.label}",
    description="Read the keys of a batch of requests; bound every method's update.",
)
def forecast_edits(job: ForecastJob) -> Manifest:
    """Return a batch of forecasts as a manifest."""
    from editcollapse.units.forecast import forecast_batch

    edits = job.edits
    tell(Report(f"{edits.model.spec.name}: forecast of batch {edits.batch_label}"))
    return forecast_batch(job)


@unit_task(
    name="sweep-batch",
    run_name="sweep {job.label}",
    description="Read a batch's keys at every layer in one forward; bound every method's updates.",
)
def sweep_layers(job: SweepJob) -> Manifest:
    """Return a batch of forecasts at every layer as a manifest."""
    from editcollapse.units.sweep import sweep_batch

    tell(Report(f"sweep of {job.label}"))
    return sweep_batch(job)
