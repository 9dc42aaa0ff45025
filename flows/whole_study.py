"""A study, or a part of it, from first row to publication, on the page of the flow run."""

from typing import Any

from prefect.client.schemas.objects import State

from editcollapse.orders import RecordOrder
from editcollapse.places import place_of
from editcollapse.planning import ModelPlan
from flows.cancelling import RunCancelled, cancelled_state
from flows.model_flows import Work, for_each_model
from flows.progress_page import shown_progress
from flows.run_page import name_the_study, show_findings
from flows.running import started, tag_study
from flows.study_run import StudyRun
from storage.writer import snapshot_is_current
from tasks.recording import record_rows


def edit_and_report(run: StudyRun, kind: str) -> str | State[Any]:
    """Edit and measure every model of a study, publish it and show its findings.

    Args:
        run: the pass through the study's plan.
        kind: what the work is, for its progress: ``study``.

    Returns:
        The study's id; state Cancelled where the run was cancelled meanwhile.
    """
    plan = run.plan
    tag_study(plan)
    name_the_study(plan.study_id)
    try:
        with shown_progress(kind, plan.study.name), run.recording():
            run.rows.add(run.study_rows())
            for_each_model(run, run.edit, ", ".join(plan.study.methods))
            run.report()
    except RunCancelled:
        return cancelled_state()
    show_findings(plan.results, plan.study_id)
    return plan.study_id


def do_and_publish(
    run: StudyRun, kind: str, work: Work, where: str | None = None
) -> State[Any] | None:
    """Do a part of a study for each of its models, and publish the rows; no report is made.

    Args:
        run: the pass through the study's plan.
        kind: what the part is, for its progress and the names of sub-flows: ``covariance``.
        work: called with each model.
        where: layers that it is about; each model's own where left out.

    Returns:
        None; state Cancelled where the run was cancelled meanwhile.
    """
    plan = run.plan
    tag_study(plan)

    def work_and_enter(model: ModelPlan) -> None:
        work(model)
        run.rows.enter()

    try:
        with shown_progress(kind, plan.study.name), run.recording():
            for_each_model(run, work_and_enter, kind, where)
    except RunCancelled:
        return cancelled_state()
    if not snapshot_is_current(place_of(plan.results).here):
        started(record_rows, RecordOrder(results=plan.results, rows=(), publish=True))()
    return None
