"""The collapse study: covariance, edits, evaluation, rows, report, as one scheduled flow.

Every unit is cached by content under the results folder. A run that was killed starts again where
it stopped; a run of the same study elsewhere has the same ids.
"""

from pathlib import Path

from prefect import Flow, flow, tags
from prefect.client.schemas.objects import State

from editcollapse.planning import plan_study
from editcollapse.specs import StudySpec
from editcollapse.study_files import with_absolute_paths
from flows.cancelling import RunCancelled, cancelled_state
from flows.progress_page import shown_progress
from flows.run_page import name_the_study, show_findings
from flows.runners import Runner, one_at_a_time, task_runner_of
from flows.running import tag_this_run
from flows.study_run import StudyRun


@flow(
    name="collapse-study",
    flow_run_name="{study.name}",
    description="Edit models one fact at a time; measure how often, where and why they collapse.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def collapse_study(study: StudySpec, results: str = "results") -> str | State[str]:
    """Run a study and return its id.

    Args:
        study: models, methods, requests and measurements; paths are absolute, or relative to the
            working directory.
        results: folder, or URL that fsspec knows, that everything is written to.

    Returns:
        The study's id; state Cancelled where the run was cancelled meanwhile.

    Raises:
        EditCollapseError: an input is missing or unusable.
    """
    plan = plan_study(with_absolute_paths(study, Path.cwd()), results)
    run = StudyRun(plan)
    about = f"study:{study.name}"
    named = [f"model:{model.order.spec.name}" for model in plan.models]
    methods = [f"method:{method}" for method in study.methods]
    tag_this_run(about, *named, *methods)
    name_the_study(plan.study_id)
    try:
        with shown_progress("study", study.name), run.recording():
            run.rows.add(run.study_rows())
            if len(plan.models) == 1 and study.runner.kind == "thread":
                run.edit(plan.models[0])  # on the study's own page: a sub-flow takes a second
            else:
                edit_model = _edit_model_flow(task_runner_of(study.runner))
                for model, name in zip(plan.models, named, strict=True):
                    with tags(about, name, *methods):
                        order = model.order
                        edit_model(order.spec.name, order.layer, ", ".join(study.methods))
            run.report()
    except RunCancelled:
        return cancelled_state()
    show_findings(plan.results, plan.study_id)
    return plan.study_id


def _edit_model_flow(runner: Runner) -> Flow[[str, int, str], None]:
    """Return the sub-flow of one model, with a task runner.

    Its page shows three short parameters, not a whole plan. It travels to the workers of a cluster
    with each task, which have none of these modules: so it imports what it needs when it runs.
    """

    @flow(
        name="edit-model",
        flow_run_name="{model} layer {layer}, {methods}",
        task_runner=runner,
        persist_result=False,
    )
    def edit_model(model: str, layer: int, methods: str) -> None:  # noqa: ARG001  shown
        """Prepare one model, then edit and measure it batch by batch."""
        from flows.study_run import present_run

        present_run().edit_named(model, layer)

    return edit_model
