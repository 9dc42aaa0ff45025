"""The collapse study: covariance, edits, evaluation, rows, report, as one scheduled flow.

Every unit is cached by content under the results folder. A run that was killed starts again where
it stopped; a run of the same study elsewhere has the same ids.
"""

from pathlib import Path

from prefect import State, flow

from editcollapse.config.spec import CollapseSpec
from editcollapse.config.study_file import with_absolute_paths
from flows.observe.run_names import dated
from flows.run.guard_steps import plan_guarded
from flows.run.study_form import StudyForm
from flows.run.study_run import StudyRun, edit_and_report
from flows.run.submit import one_at_a_time


@flow(
    name="collapse-study",
    flow_run_name=dated("{study.name}"),
    description="Edit models one fact at a time; measure how often, where and why they collapse.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def collapse_study(
    study: StudyForm, results: str = "results", rule: CollapseSpec | None = None
) -> State[str]:
    """Run a study and return its id, with a sentence of what it found.

    Args:
        study: models, methods, requests and measurements; paths are absolute, or relative to the
            working directory.
        results: folder, or URL that fsspec knows, that everything is written to.
        rule: when an edit counts as a collapse, in the report; left out, as the study states it.

    Returns:
        A state with the study's id, which is what a call of the flow returns.

    Raises:
        EditCollapseError: an input is missing or unusable.
    """
    plan = plan_guarded(with_absolute_paths(study, Path.cwd()), results)
    return edit_and_report(StudyRun(plan, rule=rule.rule if rule else None), "study")
