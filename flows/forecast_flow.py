"""Forecasts of all edits that a study would make, and no edit is made: cached, stored, in minutes.

Templates and covariances are those of the study, with the same keys: whichever comes first
computes them, and a study finds them.
"""

from collections import Counter
from pathlib import Path

from prefect import State, flow

from editcollapse.catalog.methods import method_title
from editcollapse.config.study_file import with_absolute_paths
from editcollapse.forecast.verdicts import verdict_of
from editcollapse.study.jobs import EditJob, ForecastJob
from editcollapse.study.model_editors import ModelEditors
from editcollapse.study.plan import ModelPlan, plan_study
from editcollapse.study.study_rows import study_rows
from flows.observe.run_names import dated
from flows.run.outcome import completed
from flows.run.steps import FORECAST, PREPARE
from flows.run.study_form import StudyForm
from flows.run.study_run import StudyRun, do_and_publish
from flows.run.submit import one_at_a_time
from storage.readers import forecast_rows, thresholds
from tasks.forecasting import forecast_edits

DESCRIBING = {"datasets", "requests", "rejections", "value_settings"}
"""Of the rows that describe a study, those that do not say that it has run."""


@flow(
    name="collapse-forecast",
    flow_run_name=dated("forecast {study.name}"),
    description="Say which edits of a study would collapse its models, before any is made.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def collapse_forecast(study: StudyForm, results: str = "results") -> State[int]:
    """Forecast every edit of a study, by every method; return how many requests were looked at.

    Args:
        study: models, requests and how C is measured; paths are absolute, or relative to the
            working directory. Its methods and its evaluation do not matter.
        results: folder or URL that everything is written to.

    Returns:
        A state with requests times models, which is what a call of the flow returns.

    Raises:
        EditCollapseError: an input is missing or unusable.
    """
    plan = plan_study(with_absolute_paths(study, Path.cwd()), results)
    run = StudyRun(plan, (*PREPARE, FORECAST), n_last=0)
    rows = [each for each in study_rows(plan) if each[0] in DESCRIBING]
    run.rows.add([run.store.put_rows(table, those) for table, those in rows])
    forecast: list[EditJob] = []
    do_and_publish(run, "forecast", lambda model: forecast.append(_forecast(run, model)))
    n_requests = len(plan.models) * len(plan.requests.records)
    return completed(n_requests, foreseen(run, forecast), run.tally)


def _forecast(run: StudyRun, model: ModelPlan) -> EditJob:
    """Prepare one model as its study would, forecast it batch by batch; return all as one batch."""
    templates, moments = run.prepare(model)
    moment = ModelEditors(run.plan, model).own_moment(moments)
    batches = run.plan.edit_jobs(model, templates, moment)
    asked = ((batch, ForecastJob.of(batch)) for batch in batches)
    batch: EditJob | None = None
    for batch, done in run.in_order(forecast_edits, asked):
        run.add_forecast(model, batch, done)
    assert batch is not None
    requests = tuple(record.request for record in run.plan.requests.records)
    return batch.model_copy(update={"requests": requests})


def foreseen(run: StudyRun, forecast: list[EditJob]) -> str:
    """Return how many edits of each model are at risk or worse, method by method.

    Args:
        run: whose forecasts are published.
        forecast: all requests of each model.
    """
    methods = run.plan.study.methods
    return " ".join(_verdicts(run, model, methods) for model in forecast)


def _verdicts(run: StudyRun, model: EditJob, methods: tuple[str, ...]) -> str:
    limits = thresholds(run.store.here, model.model.model_id, run.rule)
    rows = [row for row in forecast_rows(run.store.here, model) if row.method in methods]
    n_of = Counter(
        (row.method, verdict_of(row.text_change_bound, row.tokens_per_d_key, limits))
        for row in rows
    )
    counts = (
        f"by {method_title(method)} {n_of[method, 'will collapse']:,} are likely to collapse it, "
        f"{n_of[method, 'at risk']:,} are at risk and {n_of[method, 'not known']:,} not known"
        for method in methods
    )
    n_requests = len({row.request_id for row in rows})
    return f"Of {n_requests:,} edits of {model.model.spec.name}, {'; '.join(counts)}."
