"""A study from its first row to its report, on the page of the flow run that runs."""

from typing import Any

from prefect.client.schemas.objects import State

from flows.cancelling import RunCancelled, cancelled_state
from flows.model_flows import for_each_model
from flows.progress_page import shown_progress
from flows.run_page import name_the_study, show_findings
from flows.running import tag_study
from flows.study_run import StudyRun


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
