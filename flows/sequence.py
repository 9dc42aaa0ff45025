"""Sequences of edits: one model edited many times, and the step at which it collapses.

A sequence is cached by chunks of steps: a run that was killed goes on where it stopped, and a
longer sequence begins with the chunks of a shorter one.
"""

from pathlib import Path
from typing import ClassVar

from prefect import State, flow

from editcollapse.config.sequence import SequenceSpec
from editcollapse.config.spec import CollapseSpec
from editcollapse.config.study_file import with_absolute_paths
from editcollapse.errors import StudyError
from editcollapse.study.plan import plan_study
from flows.observe.run_names import dated
from flows.run.steps import ONLY_SEQUENCES
from flows.run.study_form import StudyForm
from flows.run.study_run import StudyRun, edit_and_report
from flows.run.submit import one_at_a_time


class SequenceRun(StudyRun):
    """One pass through a study's sequences; its single edits are left alone."""

    edits_singly: ClassVar[bool] = False


@flow(
    name="edit-sequence",
    flow_run_name=dated("sequences of {study.name}"),
    description="Edit models many times, one edit on the other; find the step of collapse.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def edit_sequence(
    study: StudyForm,
    sequence: SequenceSpec | None = None,
    results: str = "results",
    rule: CollapseSpec | None = None,
) -> State[str]:
    """Make the sequences of a study and return its id, with a sentence of what was found.

    Args:
        study: models and requests; paths are absolute, or relative to the working directory.
        sequence: editors, lengths and orders; left out, those of the study's table `sequence`.
        results: folder, or URL that fsspec knows, that everything is written to.
        rule: when a model counts as collapsed, in the report; left out, as the study states it.

    Returns:
        A state with the study's id, which is what a call of the flow returns.

    Raises:
        EditCollapseError: an input is missing or unusable, or the study has no sequences.
    """
    if sequence is not None:
        study = study.model_copy(update={"sequence": sequence})
    if study.sequence is None:
        raise StudyError(
            f"study {study.name!r} has no table [sequence]. Add one, such as "
            '[sequence] with editors = ["rome", "memit"], or run it as a collapse study.'
        )
    plan = plan_study(with_absolute_paths(study, Path.cwd()), results)
    own = rule.rule if rule else None
    return edit_and_report(SequenceRun(plan, ONLY_SEQUENCES, rule=own), "sequences")
