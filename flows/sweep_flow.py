"""Forecasts of a study's edits at every layer: one pass over the corpus, one forward a batch.

Templates, and C of a layer that the study edits, are the study's own, with the same keys. What a
sweep has measured of a layer, a study that edits there finds.
"""

from pathlib import Path

from prefect import flow

from editcollapse.config.spec import StudySpec
from editcollapse.config.study_file import with_absolute_paths
from editcollapse.study.plan import ModelPlan, plan_study
from editcollapse.study.study_rows import study_rows
from editcollapse.study.sweep import ALL, ModelSweep, plan_sweep
from flows.forecast_flow import DESCRIBING
from flows.run.covariance_steps import measured_moments
from flows.run.steps import FORECAST, TEMPLATES, Step, moment_jobs
from flows.run.study_run import StudyRun, do_and_publish
from flows.run.submit import one_at_a_time
from tasks.forecasting import sweep_layers
from tasks.preparing import context_templates


@flow(
    name="layer-sweep",
    flow_run_name="sweep {study.name}, layers {layers}",
    description="Say at which layers the edits of a study would collapse its models.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def layer_sweep(study: StudySpec, layers: str = ALL, results: str = "results") -> int:
    """Forecast every edit of a study at each layer, by every method.

    Args:
        study: models, requests and how C is measured; paths are absolute, or relative to the
            working directory. Its methods and its evaluation do not matter.
        layers: `all`, or layers and ranges such as `0-11,20`.
        results: folder or URL that everything is written to.

    Returns:
        Layers of all models together.

    Raises:
        EditCollapseError: an input is missing or unusable, or a model has no such layer.
    """
    plan = plan_study(with_absolute_paths(study, Path.cwd()), results)
    sweep = plan_sweep(plan, layers)
    moments = Step(lambda _plan, model: moment_jobs(sweep.of(model).covariance_plans()))
    run = StudyRun(sweep.study, (TEMPLATES, moments, FORECAST), n_last=0)
    rows = [each for each in study_rows(plan) if each[0] in DESCRIBING]
    run.rows.add([run.store.put_rows(table, those) for table, those in rows])
    do_and_publish(
        run,
        "sweep",
        lambda model: _sweep(run, model, sweep.of(model)),
        where=f"layers {layers}",
    )
    return sum(len(each.layers) for each in sweep.models)


def _sweep(run: StudyRun, model: ModelPlan, sweep: ModelSweep) -> None:
    """Measure C of every layer of one model, then forecast it batch by batch."""
    templates = run.compute(context_templates, model.templates)
    moments = measured_moments(run, sweep.covariance_plans(), templates)
    run.rows.add([*templates.rows, *(ref for moment in moments for ref in moment.rows)])
    asked = ((job.layers[0], job) for job in sweep.jobs(templates, moments))
    for batch, done in run.in_order(sweep_layers, asked):
        run.add_forecast(model, batch, done)
