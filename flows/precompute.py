"""The second moments of a study's models, and nothing else: what a night before a study can do.

The units are those of the study, with the same keys: it finds them, and starts with its edits.
"""

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from editcollapse.orders import RecordOrder
from editcollapse.passes import MomentPass
from editcollapse.places import place_of
from editcollapse.planning import ModelPlan, plan_study
from editcollapse.specs import StudySpec
from editcollapse.study_files import with_absolute_paths
from flows.cancelling import RunCancelled, cancelled_state
from flows.covariance import measured_moment
from flows.model_flows import for_each_model
from flows.progress_page import shown_progress
from flows.runners import one_at_a_time
from flows.running import started, tag_study
from flows.study_run import UNITS_PER_BATCH, StudyRun
from storage.writer import snapshot_is_current
from tasks.preparing import context_templates
from tasks.recording import record_rows


@flow(
    name="precompute-covariance",
    flow_run_name="covariance {study.name}",
    description="Measure the second moments that a study's edits will need.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def precompute_covariance(
    study: StudySpec, results: str = "results"
) -> list[str] | State[list[str]]:
    """Measure the second moment of each model and layer; return their ids.

    Args:
        study: whose models, corpus and templates count; paths are absolute, or relative to the
            working directory.
        results: folder or URL that everything is written to.

    Raises:
        EditCollapseError: an input is missing or unusable.
    """
    plan = plan_study(with_absolute_paths(study, Path.cwd()), results)
    run = StudyRun(plan)
    # Neither edits, nor evaluations, nor unedited models, nor a report.
    run.expect(-1 - len(plan.models) * (1 + UNITS_PER_BATCH * plan.n_batches))
    tag_study(plan)
    try:
        with shown_progress("covariance", study.name), run.recording():
            for_each_model(run, lambda model: _measure(run, model), "covariance")
    except RunCancelled:
        return cancelled_state()
    if not snapshot_is_current(place_of(plan.results).here):
        started(record_rows, RecordOrder(results=plan.results, rows=(), publish=True))()
    return [model.moment.covariance_id for model in plan.models]


def _measure(run: StudyRun, model: ModelPlan) -> None:
    """Bring one layer's second moment, and enter its rows."""
    templates = run.compute(context_templates, model.templates)
    moment = measured_moment(run, MomentPass.of(run.plan, model), templates)
    run.rows.add([*templates.rows, *moment.rows])
    run.rows.enter()
