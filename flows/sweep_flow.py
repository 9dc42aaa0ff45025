"""Forecasts of a study's edits at every layer: one pass over the corpus, one forward a batch.

Templates, and C of a layer that the study edits, are the study's own, with the same keys. What a
sweep has measured of a layer, a study that edits there finds.
"""

from collections.abc import Sequence
from pathlib import Path

from prefect import State, flow

from editcollapse.catalog.methods import method_title
from editcollapse.config.study_file import with_absolute_paths
from editcollapse.forecast.verdicts import SafeLayers, safe_layers
from editcollapse.study.jobs import Manifest
from editcollapse.study.plan import ModelPlan, plan_study
from editcollapse.study.study_rows import study_rows
from editcollapse.study.sweep import ALL, ModelSweep, layers_in_words, plan_sweep
from flows.forecast_flow import DESCRIBING
from flows.observe.run_names import dated
from flows.run.covariance_steps import measured_moments
from flows.run.outcome import completed
from flows.run.steps import FORECAST, TEMPLATES, Step, moment_jobs
from flows.run.study_form import StudyForm
from flows.run.study_run import StudyRun, do_and_publish
from flows.run.submit import one_at_a_time
from storage.readers import sweep_rows
from tasks.forecasting import sweep_layers
from tasks.preparing import context_templates


@flow(
    name="layer-sweep",
    flow_run_name=dated("sweep {study.name}, layers {layers}"),
    description="Say at which layers the edits of a study would collapse its models.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def layer_sweep(study: StudyForm, layers: str = ALL, results: str = "results") -> State[int]:
    """Forecast every edit of a study at each layer, by every method.

    Args:
        study: models, requests and how C is measured; paths are absolute, or relative to the
            working directory. Its methods and its evaluation do not matter.
        layers: `all`, or layers and ranges such as `0-11,20`.
        results: folder or URL that everything is written to.

    Returns:
        A state with the number of layers of all models together, which is what a call returns.

    Raises:
        EditCollapseError: an input is missing or unusable, or a model has no such layer.
    """
    plan = plan_study(with_absolute_paths(study, Path.cwd()), results)
    sweep = plan_sweep(plan, layers)
    moments = Step(lambda _plan, model: moment_jobs(sweep.of(model).covariance_plans()))
    run = StudyRun(sweep.study, (TEMPLATES, moments, FORECAST), n_last=0)
    rows = [each for each in study_rows(plan) if each[0] in DESCRIBING]
    run.rows.add([run.store.put_rows(table, those) for table, those in rows])
    templates: list[Manifest] = []
    do_and_publish(
        run,
        "sweep",
        lambda model: templates.append(_sweep(run, model, sweep.of(model))),
        where=f"layers {layers}",
    )
    n_layers = sum(len(each.layers) for each in sweep.models)
    names = [model.setup.spec.name for model in plan.models]
    verdicts = [
        row
        for each, own in zip(sweep.models, templates, strict=True)
        for row in sweep_rows(run.store.here, each, own.values)
        if row.method in plan.study.methods
    ]
    verdicts.sort(key=lambda row: (names.index(row.model), plan.study.methods.index(row.method)))
    return completed(n_layers, all_safe(safe_layers(verdicts)), run.tally)


def all_safe(found: Sequence[SafeLayers]) -> str:
    """Return at which layers of each model no edit is at risk, method by method."""
    return " ".join(
        f"{each.model}, {method_title(each.method)}: all edits are safe at "
        + (f"layers {layers_in_words(each.layers)}." if each.layers else "no layer.")
        for each in found
    )


def _sweep(run: StudyRun, model: ModelPlan, sweep: ModelSweep) -> Manifest:
    """Measure C of every layer of one model, forecast it batch by batch; return its templates."""
    templates = run.compute(context_templates, model.templates)
    moments = measured_moments(run, sweep.covariance_plans(), templates)
    run.rows.add([*templates.rows, *(ref for moment in moments for ref in moment.rows)])
    asked = ((job.layers[0], job) for job in sweep.jobs(templates, moments))
    for batch, done in run.in_order(sweep_layers, asked):
        run.add_forecast(model, batch, done)
    return templates
