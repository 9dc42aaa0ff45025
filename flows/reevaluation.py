"""New measurements of stored updates: other perplexity texts, and no edit is made again.

What a study's edits are measured on is part of its identity, so a re-evaluation is recorded as a
study of the same name, with the same edits and another ``evaluation_id``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import State, Task, flow

from editcollapse.config.spec import CollapseSpec, EvaluationSpec, StudySpec
from editcollapse.config.study_file import with_absolute_paths
from editcollapse.errors import ResultsError
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.study.guarded import known_jobs
from editcollapse.study.jobs import EditJob, Job, Manifest
from editcollapse.study.locks import cached_manifest
from editcollapse.study.plan import ModelPlan, StudyPlan
from flows.observe.run_names import dated
from flows.run.guard_steps import plan_guarded
from flows.run.steps import EVALUATE, GUARD, PREPARE, UNEDITED
from flows.run.study_form import StudyForm
from flows.run.study_run import StudyRun, Wait, edit_and_report
from flows.run.submit import one_at_a_time
from reports.headline import headline
from storage.ask import StudyFindings


class StoredEditsRun(StudyRun):
    """A pass through a plan that takes every batch of edits from the store and computes none.

    Args:
        plan: the study, with what is to be measured now.
        rule: when an edit counts as a collapse; None: as the study states it.
    """

    kind = "reevaluation"

    def __init__(self, plan: StudyPlan, rule: CollapseRule | None = None) -> None:
        super().__init__(plan, (*PREPARE, UNEDITED, GUARD, EVALUATE), rule=rule)

    def start(self, task: Task[[Any], Manifest], job: Job) -> Wait:
        """Start a job; a batch of edits is taken as it is stored.

        Raises:
            ResultsError: a batch of edits is not there, or a file of it is damaged.
        """
        if not isinstance(job, EditJob):
            return super().start(task, job)
        manifest = cached_manifest(job)
        if manifest is None:
            raise _missing(self.plan, 1)
        return lambda: manifest


@flow(
    name="reevaluate",
    flow_run_name=dated("reevaluate {study.name}"),
    description="Measure the stored edits of a study on other texts; edits nothing again.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def reevaluate(
    study: StudyForm,
    evaluation: EvaluationSpec,
    results: str = "results",
    rule: CollapseSpec | None = None,
) -> State[str]:
    """Measure a study's stored edits anew and return the id that the measurements have as a study.

    Args:
        study: the study whose edits are stored; paths are absolute, or relative to the working
            directory.
        evaluation: what to measure them on now; no text is continued again.
        results: folder or URL that the study was written to.
        rule: when an edit counts as a collapse, in the report; left out, as the study states it.

    Raises:
        EditCollapseError: an input is missing or unusable, or edits of the study are not stored.
    """
    plan = plan_reevaluation(with_absolute_paths(study, Path.cwd()), evaluation, results)
    run = StoredEditsRun(plan, rule.rule if rule else None)
    return edit_and_report(run, "reevaluation", measured_again)


def measured_again(found: StudyFindings) -> str:
    """Return what a study's stored edits do on other texts."""
    return f"On {found.n_texts} texts of {found.text_set}: {headline(found)}"


def plan_reevaluation(study: StudySpec, evaluation: EvaluationSpec, results: str) -> StudyPlan:
    """Return the plan that measures a study's stored edits on other texts; writes nothing.

    Args:
        study: with absolute paths.
        evaluation: its path absolute, or relative to the working directory.
        results: path or URL of the results folder.

    Raises:
        ResultsError: edits of the study are not stored, or none is by a rank-one method.
        EditCollapseError: an input is missing or unusable.
    """
    if not study.rank_one_methods:
        raise ResultsError(
            f"study {study.name!r} has no edits by rank-one methods, and only theirs are measured "
            "again. Run it with other texts as a study of its own."
        )
    # No edit writes anything new.
    silent = {"continuations": 0, "generation": None, "judge": None}
    measured = evaluation.model_copy(update=silent)
    changes = {
        "evaluation": measured,
        # Only updates of rank-one methods are taken as they are stored.
        "methods": study.rank_one_methods,
        "editors": (),
        "sequence": None,
    }
    again = with_absolute_paths(study.model_copy(update=changes), Path.cwd())
    plan = plan_guarded(again, results)
    n_missing = sum(1 for model in plan.models for _ in _unstored(plan, model))
    if n_missing:
        raise _missing(plan, n_missing)
    return plan


def _unstored(plan: StudyPlan, model: ModelPlan) -> Iterator[int]:
    """Yield the index of each batch whose edits are not stored."""
    templates, moment = cached_manifest(model.templates), cached_manifest(model.moment)
    if templates is None or moment is None:  # without them, no edit can be named
        yield from range(plan.n_batches)
        return
    for batch, jobs in known_jobs(plan, model, templates, moment):
        # Behind a guard, a batch without a forecast was never edited either.
        if jobs is None or any(cached_manifest(job) is None for job in jobs):
            yield batch.batch_index


def _missing(plan: StudyPlan, n_missing: int) -> ResultsError:
    n_batches = plan.n_batches * len(plan.models)
    return ResultsError(
        f"{n_missing} of {n_batches} edit batches of study {plan.study.name!r} are not stored in "
        f"{plan.results}, and a re-evaluation never edits again. Run the study first, with its own "
        f"texts: editcollapse run STUDY.toml --results {plan.results}"
    )
