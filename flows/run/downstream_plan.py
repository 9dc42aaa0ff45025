"""What is asked of which models by downstream tasks: planned before any server starts.

Prefect is not imported here: a command looks for mistakes first, and sets Prefect up after that.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from editcollapse.config.downstream import DownstreamSpec
from editcollapse.config.spec import StudySpec
from editcollapse.data.harness_tasks import HarnessTask, harness_version, read_task
from editcollapse.errors import ResultsError, StudyError
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.downstream_jobs import (
    AskedTask,
    DownstreamJob,
    DownstreamModel,
    check_named,
    chosen_edits,
    exported_model,
    stored_task,
)
from editcollapse.study.plan import ModelPlan, StudyPlan, plan_study
from storage.downstream import edits_of_study, state_of_sequence

Read = tuple[tuple[str, HarnessTask], ...]
"""Tasks as they were asked for, and as they were read."""


@dataclasses.dataclass(frozen=True, slots=True)
class DownstreamPlan:
    """What is asked of which models."""

    study: StudyPlan
    tasks: Read
    models: tuple[tuple[str, tuple[DownstreamModel, ...]], ...]
    """Name of a model in the study, and what is asked of it: unedited, then under its updates."""
    exported: tuple[DownstreamModel, ...]
    spec: DownstreamSpec
    harness_version: str

    def of(self, model: ModelPlan) -> tuple[DownstreamModel, ...]:
        """What is asked of one model of the study."""
        return dict(self.models)[model.setup.spec.name]

    def jobs(
        self, models: Sequence[DownstreamModel], tasks: Sequence[AskedTask]
    ) -> list[DownstreamJob]:
        """The jobs of some models, model by model."""
        return [
            DownstreamJob(
                results=self.study.results,
                model=model,
                task=task,
                limit=self.spec.items,
                n_shot=self.spec.shots,
                harness_version=self.harness_version,
            )
            for model in models
            for task in tasks
        ]

    def all_jobs(self, tasks: Sequence[AskedTask]) -> list[DownstreamJob]:
        """All jobs, those of the study's models first."""
        own = [each for _, models in self.models for each in models]
        return self.jobs([*own, *self.exported], tasks)

    def stored_tasks(self) -> list[AskedTask]:
        """The tasks as jobs have them, written to the results folder.

        Raises:
            ResultsError: it cannot be written.
        """
        store = ArtifactStore(self.study.results)
        return [stored_task(store, asked, task) for asked, task in self.tasks]


def plan_downstream(study: StudySpec, spec: DownstreamSpec, results: str) -> DownstreamPlan:
    """Return what is asked of which models; nothing is written, no weight is loaded.

    Args:
        study: with absolute paths; its edits are stored.
        spec: tasks, and which edits.
        results: path or URL of the results folder.

    Raises:
        StudyError: lm_eval is not installed, or an edit that is named is not there.
        ResultsError: the study has not been run, or a sequence is not there.
        EditCollapseError: an input is missing or unusable.
    """
    version = harness_version()
    tasks = tuple((asked, read_task(asked)) for asked in spec.tasks)
    names = [task.name for _, task in tasks]
    if len(set(names)) != len(names):
        raise StudyError(f"two tasks have one name: {', '.join(names)}. Rename one in its YAML.")
    plan = plan_study(study, results)
    here = ArtifactStore(plan.results).here
    edits = edits_of_study(here, plan.study_id)
    states = [_state(here, plan, asked) for asked in spec.sequences]
    if not edits and not states:
        raise ResultsError(
            f"no edit of study {study.name!r} as it stands is in {plan.results}. Run it first: "
            f"editcollapse run STUDY.toml --results {plan.results}"
        )
    check_named(edits, spec.edits, study.name)
    models = []
    for model in plan.models:
        setup = model.setup
        is_twice = sum(each.setup.model_id == setup.model_id for each in plan.models) > 1
        own = [
            each
            for each in edits
            if each.model_id == setup.model_id and (not is_twice or each.layer == setup.layer)
        ]
        chosen = chosen_edits(own, spec.worst, spec.sample, spec.edits, study.seed)
        found = [
            DownstreamModel(kind="unedited", spec=setup.spec, model_id=setup.model_id),
            *(
                DownstreamModel(kind="edit", spec=setup.spec, model_id=setup.model_id, edit=edit)
                for edit in chosen
            ),
            *(
                each.model_copy(update={"spec": setup.spec})
                for each in states
                if each.model_id == setup.model_id
            ),
        ]
        models.append((setup.spec.name, tuple(found)))
    exported = tuple(exported_model(source) for source in spec.exported)
    return DownstreamPlan(plan, tasks, tuple(models), exported, spec, version)


def _state(here: Path, plan: StudyPlan, asked: str) -> DownstreamModel:
    """Return a sequence's state as ``ID`` or ``ID:STEP`` names it."""
    name, _, step = asked.partition(":")
    if step and not step.isdecimal():
        raise StudyError(f"sequence {asked!r}: behind the colon stands a step, such as 20.")
    sequence, at = state_of_sequence(here, plan.study_id, name, int(step) if step else None)
    return DownstreamModel(
        kind="sequence",
        spec=sequence.spec,
        model_id=sequence.model_id,
        sequence=sequence,
        step=at,
    )
