"""The collapse study: covariance, edits, evaluation, rows, report, as one scheduled flow.

Every unit is cached by content under the results folder. A run that was killed starts again where
it stopped; a run of the same study elsewhere has the same ids.
"""

from pathlib import Path

from prefect import Flow, flow, tags
from prefect.context import FlowRunContext

from editcollapse.planning import ModelPlan, plan_study
from editcollapse.specs import StudySpec
from editcollapse.study_files import with_absolute_paths
from flows.progress_page import shown_progress
from flows.run_page import name_the_study, show_findings
from flows.running import one_at_a_time, tag_this_run
from flows.study_run import StudyRun, units_of


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
    methods = [f"method:{method}" for method in study.methods]
    tag_this_run(about, *named, *methods)
    name_the_study(plan.study_id)
    with shown_progress("study", study.name), run.recording():
        run.rows.add(run.study_rows())
        if len(plan.models) == 1:  # the study's page shows its tasks; a sub-flow takes a second
            run.edit(plan.models[0])
        else:
            for model, name in zip(plan.models, named, strict=True):
                with tags(about, name, *methods):
                    edit_model = _edit_model_flow(run, model)
                    edit_model(model.order.spec.name, model.order.layer, ", ".join(study.methods))
        run.report()
    show_findings(folder, plan.study_id)
    return plan.study_id


def _edit_model_flow(run: StudyRun, plan: ModelPlan) -> Flow[[str, int, str], None]:
    """Return the sub-flow of one model; its page shows three short parameters, not a whole plan.

    It runs its tasks as the study does: with several workers, several shards at a time.
    """
    study = FlowRunContext.get()
    assert study is not None
    assert study.flow is not None

    @flow(
        name="edit-model",
        flow_run_name="{model} layer {layer}, {methods}",
        task_runner=study.flow.task_runner,
        persist_result=False,
    )
    def edit_model(model: str, layer: int, methods: str) -> None:  # noqa: ARG001  shown on the page
        """Prepare one model, then edit and measure it batch by batch."""
        with shown_progress(
            "model", f"{run.plan.study.name} {model}", units=units_of(run.plan, plan)
        ):
            run.edit(plan)

    return edit_model
