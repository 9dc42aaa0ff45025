"""The collapse study: covariance, edits, evaluation, rows, report, as one scheduled flow.

Every unit is cached by content under the results folder. A run that was killed starts again where
it stopped; a run of the same study elsewhere has the same ids.
"""

from pathlib import Path

from prefect import Flow, flow, tags
from prefect.context import FlowRunContext

from editcollapse.planning import ModelPlan, plan_study
from editcollapse.running_studies import running_study
from editcollapse.specs import StudySpec
from editcollapse.study_files import with_absolute_paths
from flows.running import one_at_a_time, tag_this_run
from flows.study_run import StudyRun


@flow(
    name="collapse-study",
    flow_run_name="{study.name}",
    description="Edit models one fact at a time; measure how often, where and why they collapse.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def collapse_study(study: StudySpec, results: str = "results") -> str:
    """Run a study and return its id.

    Args:
        study: models, methods, requests and measurements; paths are absolute, or relative to the
            working directory.
        results: folder that everything is written to.

    Raises:
        EditCollapseError: an input is missing or unusable.
    """
    folder = Path(results).resolve()
    plan = plan_study(with_absolute_paths(study, Path.cwd()), folder)
    run = StudyRun(plan)
    about = f"study:{study.name}"
    named = [f"model:{model.order.spec.name}" for model in plan.models]
    tag_this_run(about, *named)
    with running_study(folder), run.recording():
        run.rows.add(run.study_rows())
        if len(plan.models) == 1:  # the study's page shows its tasks; a sub-flow takes a second
            run.edit(plan.models[0])
        else:
            for model, name in zip(plan.models, named, strict=True):
                with tags(about, name):
                    _edit_model_flow(run, model)(model.order.spec.name, model.order.layer)
        run.report()
    return plan.study_id


def _edit_model_flow(run: StudyRun, plan: ModelPlan) -> Flow[[str, int], None]:
    """Return the sub-flow of one model; its page shows two short parameters, not a whole plan.

    It runs its tasks as the study does: with several workers, several shards at a time.
    """
    study = FlowRunContext.get()
    assert study is not None
    assert study.flow is not None

    @flow(
        name="edit-model",
        flow_run_name="{model} layer {layer}",
        task_runner=study.flow.task_runner,
        persist_result=False,
    )
    def edit_model(model: str, layer: int) -> None:  # noqa: ARG001  shown on the run page
        """Prepare one model, then edit and measure it batch by batch."""
        run.edit(plan)

    return edit_model
