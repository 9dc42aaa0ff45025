"""One edit as a study of its own: forecast, guarded, made, measured and recorded."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from prefect import State, flow

from editcollapse.catalog.editors import editor_title
from editcollapse.config.spec import StudySpec
from editcollapse.study.jobs import EditJob, ForecastJob, KnownSetup, Manifest
from editcollapse.study.known_setup import known_manifests, with_known_setup
from editcollapse.study.plan import ModelPlan, StudyPlan
from flows.observe.run_names import dated
from flows.run.guard_steps import plan_guarded
from flows.run.steps import (
    ANSWERS,
    EDIT,
    EDITORS,
    EVALUATE,
    FORECAST,
    GUARD,
    PREPARE,
    TEXTS,
    UNEDITED,
    Step,
)
from flows.run.study_run import StudyRun, edit_and_report
from flows.run.submit import one_at_a_time
from reports.text import number
from storage.ask import StudyFindings
from storage.readers import edit_report, rejection_of
from tasks.forecasting import forecast_edits


class SingleEditRun(StudyRun):
    """A pass through the plan of one edit; of a rank-one one it forecasts first, guarded or not.

    Args:
        plan: the study.
        known: how the results folder's studies edit the model; None where the plan says it.
    """

    kind = "single edit"

    def __init__(self, plan: StudyPlan, known: KnownSetup | None) -> None:
        prepared = PREPARE if known is None else ()
        forecast_step = GUARD if plan.study.guard is not None else FORECAST
        made: tuple[Step, ...] = (forecast_step, EDIT, EVALUATE, TEXTS)
        if plan.study.single_editors:
            made = (EDITORS,)
        super().__init__(plan, (*prepared, UNEDITED, *made, ANSWERS))
        self._known = known

    def prepare(self, model: ModelPlan) -> tuple[Manifest, Sequence[Manifest]]:
        """Return templates and second moment: what is known, else as for any study."""
        if self._known is None:
            return super().prepare(model)
        templates, moment = known_manifests(self.plan.results, self._known)
        return templates, (moment,)

    def jobs(self, model: ModelPlan, templates: Manifest, moment: Manifest) -> Iterator[EditJob]:
        """Yield the jobs of the edits that are made, after their forecasts."""
        if model.guard is None:
            for batch in self.plan.edit_jobs(model, templates, moment):
                self.rows.add(self.compute(forecast_edits, ForecastJob.of(batch)).rows)
        yield from super().jobs(model, templates, moment)


@flow(
    name="collapse-edit",
    flow_run_name=dated("{study.name}"),
    description="Make one edit, or let a guard decide on it; measure what it does to the model.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def collapse_edit(
    study: StudySpec, known: KnownSetup | None, results: str = "results"
) -> State[str]:
    """Make the only edit of a study and return the study's id.

    Args:
        study: of one model, method and request; paths are absolute.
        known: how the results folder's studies edit the model by rank-one methods; its layer, v*
            settings, templates and C then go before the study's own.
        results: folder or URL that everything is written to.

    Raises:
        EditCollapseError: an input is missing or unusable.
    """
    plan = plan_guarded(study, results)
    if known is not None:
        plan = with_known_setup(plan, known)
    run = SingleEditRun(plan, known)
    return edit_and_report(run, "edit", functools.partial(effect, run.store.here))


def effect(results: Path, found: StudyFindings) -> str:
    """Return what became of a study's only edit.

    Args:
        results: the results folder of this machine.
        found: the study as it is published.
    """
    edit = edit_report(results, found.study_id)
    if edit is None:
        return f"The model cannot take this edit: {rejection_of(results, found.study_id)}."
    asked = f"{edit.prompt.replace('{}', edit.subject)} -> {edit.target_new}, of {edit.model}"
    by = f" by {editor_title(edit.made_method)}" if edit.made_method else ""
    decided = f"{edit.decision}{by}"
    if edit.perplexity is None:
        return f"{asked}: {decided}. {edit.reason}"
    n_collapsed = int(found.incidence.frame["n_collapsed"].sum())
    return (
        f"{asked}: {decided}, it {'collapsed' if n_collapsed else 'did not collapse'} the model: "
        f"perplexity {number(edit.perplexity_before)} before, {number(edit.perplexity)} after."
    )
