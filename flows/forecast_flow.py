"""Forecasts of all edits that a study would make, and no edit is made: cached, stored, in minutes.

Templates and covariances are those of the study, with the same keys: whichever comes first
computes them, and a study finds them.
"""

from pathlib import Path

from prefect import flow

from editcollapse.config.spec import StudySpec
from editcollapse.config.study_file import with_absolute_paths
from editcollapse.study.jobs import ForecastJob
from editcollapse.study.plan import ModelPlan, plan_study
from editcollapse.study.study_rows import study_rows
from flows.run.steps import FORECAST, PREPARE
from flows.run.study_run import StudyRun, do_and_publish
from flows.run.submit import one_at_a_time
from tasks.forecasting import forecast_edits

DESCRIBING = {"datasets", "requests", "rejections", "value_settings"}
"""Of the rows that describe a study, those that do not say that it has run."""


@flow(
    name="collapse-forecast",
    flow_run_name="forecast {study.name}",
    description="Say which edits of a study would collapse its models, before any is made.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def collapse_forecast(study: StudySpec, results: str = "results") -> int:
    """Forecast every edit of a study, by every method; return how many requests were looked at.

    Args:
        study: models, requests and how C is measured; paths are absolute, or relative to the
            working directory. Its methods and its evaluation do not matter.
        results: folder or URL that everything is written to.

    Returns:
        Requests times models.

    Raises:
        EditCollapseError: an input is missing or unusable.
    """
    plan = plan_study(with_absolute_paths(study, Path.cwd()), results)
    run = StudyRun(plan, (*PREPARE, FORECAST), n_last=0)
    rows = [each for each in study_rows(plan) if each[0] in DESCRIBING]
    run.rows.add([run.store.put_rows(table, those) for table, those in rows])
    do_and_publish(run, "forecast", lambda model: _forecast(run, model))
    return len(plan.models) * len(plan.requests.records)


def _forecast(run: StudyRun, model: ModelPlan) -> None:
    """Prepare one model as its study would, then forecast it batch by batch."""
    templates, moment = run.prepare(model)
    batches = run.plan.edit_jobs(model, templates, moment)
    asked = ((batch, ForecastJob.of(batch)) for batch in batches)
    for batch, done in run.in_order(forecast_edits, asked):
        run.add_forecast(model, batch, done)
