"""The steps of a guard: thresholds of a plan, each batch's forecast, its decisions and edits."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from editcollapse.config.spec import StudySpec
from editcollapse.forecast.defaults import default_thresholds
from editcollapse.forecast.guard import Guard
from editcollapse.forecast.verdicts import Thresholds
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.study.guarded import (
    NOTHING,
    decision_rows,
    decisions_on,
    job_to_try,
    jobs_of,
    prefixed_dataset_rows,
    prefixed_request_rows,
    read_forecast,
    requests_to_try,
)
from editcollapse.study.jobs import EditJob, ForecastJob, Manifest
from editcollapse.study.plan import ModelPlan, StudyPlan, plan_study
from editcollapse.study.results_folder import ResultsFolder, results_at
from storage.database import SNAPSHOT
from storage.publish import folder_to_read
from storage.readers import thresholds

if TYPE_CHECKING:
    from flows.run.study_run import StudyRun


def plan_guarded(study: StudySpec, results: str) -> StudyPlan:
    """Return the plan of a study that edits; as ``plan_study``, with the thresholds that count now.

    Args:
        study: with absolute paths.
        results: path or URL of the results folder; nothing is written to it.

    Raises:
        EditCollapseError: an input is missing or unusable, or the thresholds cannot be read.
    """
    calibrated = partial(present_thresholds, results_at(results), rule=study.collapse.rule)
    return plan_study(study, results, calibrated)


def present_thresholds(
    results_folder: ResultsFolder, model_id: str, rule: CollapseRule | None = None
) -> Thresholds:
    """Return a model's thresholds in a results folder; the default where nothing was published.

    Args:
        results_folder: the results folder.
        model_id: the model.
        rule: the collapse rule that they were calibrated by; None: whichever was used last.

    Raises:
        ResultsError: what was published cannot be read, or is older than forecasts.
    """
    published = published_folder(results_folder)
    return default_thresholds() if published is None else thresholds(published, model_id, rule)


def published_folder(results_folder: ResultsFolder) -> Path | None:
    """Return the folder of the place's present snapshot; None where nothing was published."""
    try:
        results_folder.fetch(SNAPSHOT.as_posix())
    except FileNotFoundError:
        return None
    folder = folder_to_read(results_folder)
    return folder if (folder / SNAPSHOT).is_file() else None


def guarded_jobs(
    run: "StudyRun", guard: Guard, model: ModelPlan, templates: Manifest, moment: Manifest
) -> Iterator[EditJob]:
    """Yield the jobs of the edits of one model that the guard lets be made.

    As many batches are forecast ahead as the runner has workers. Forecasts, decisions and the
    requests that were tried behind texts are handed to the database on the way.

    Args:
        run: the pass through the study's plan.
        guard: the model's.
        model: one of the study's models.
        templates: what its templates unit returned.
        moment: what its covariance unit returned.
    """
    from tasks.forecasting import forecast_edits

    batches = run.plan.edit_jobs(model, templates, moment)
    asked = ((batch, ForecastJob.of(batch)) for batch in batches)
    for batch, done in run.in_order(forecast_edits, asked):
        yield from _jobs(run, guard, model, batch, done)


def _jobs(
    run: "StudyRun", guard: Guard, model: ModelPlan, batch: EditJob, done: Manifest
) -> tuple[EditJob, ...]:
    """Decide on a batch that has been foreseen; hand over its rows, return its jobs."""
    forecasts, behind = read_forecast(run.store, done), NOTHING
    run.add_forecast(model, batch, done)
    tried = requests_to_try(guard, batch, forecasts)
    if tried:
        from tasks.forecasting import forecast_edits  # Prefect: not to plan with

        run.listed.correct(0, 1)
        found = run.compute(forecast_edits, job_to_try(batch, tried))
        behind = read_forecast(run.store, found)
        rows = [
            *found.rows,
            run.store.put_rows("datasets", prefixed_dataset_rows(run.plan, tried)),
            run.store.put_rows(
                "requests", prefixed_request_rows(run.plan, batch.batch_index, tried)
            ),
        ]
        run.rows.add(rows)
    decisions = decisions_on(guard, batch, forecasts, tried, behind)
    made = decision_rows(run.plan, guard, decisions)
    if not run.store.is_whole(run.store.rows_ref("guard_decisions", made)):
        run.events.edits_refused(model, batch.batch_index, guard, decisions)
    run.rows.add([run.store.put_rows("guard_decisions", made)])
    jobs = jobs_of(batch, decisions)
    run.correct_batch(len(jobs))
    return jobs
