"""A study's report as a flow of its own: after a completed run, or when somebody asks for it."""

import dataclasses
from uuid import UUID

from prefect import flow, get_client
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from editcollapse.config.spec import CollapseSpec
from editcollapse.errors import StudyError
from editcollapse.study.results_folder import results_at
from flows.observe.run_page import STUDY_LABEL, show_findings
from reports.page import write_report
from storage.ask import find_study, study_rule
from storage.publish import folder_to_read

_DEFAULT_RESULTS = "results"


@dataclasses.dataclass(frozen=True, slots=True)
class _FinishedRun:
    """The study of a flow run, by id or else by name, and its results folder."""

    study: str
    results: str


def _run_name() -> str:
    """Return the name of a run of the flow."""
    asked = flow_run.parameters
    if asked.get("study"):
        return f"report {asked['study']}"
    return f"report of run {asked['run']}" if asked.get("run") else "report"


@flow(
    name="report",
    flow_run_name=_run_name,
    description="Write a study's HTML report from results.duckdb and show its findings here.",
    result_serializer="json",
)
def report(
    study: str = "",
    results: str = _DEFAULT_RESULTS,
    run: str = "",
    rule: CollapseSpec | None = None,
) -> str:
    """Write a study's report and return its path.

    Args:
        study: name or id of a study in the results folder; left out, that of `run`, else the
            newest.
        results: folder or URL that the study was written to; with `run` and left as it is, that
            of the run.
        run: id of a finished flow run of `collapse-study`, as an automation hands it over.
        rule: when an edit counts as a collapse; left out, as the study states it.

    Raises:
        EditCollapseError: there is no such study, or no such run.
    """
    if run:
        found = _ran(run)
        results = found.results if results == _DEFAULT_RESULTS else results
        study = study or found.study
    folder = results_at(results)
    readable = folder_to_read(folder)
    study_id = find_study(readable, study)
    counted_by = study_rule(readable, study_id) if rule is None else rule.rule
    path = write_report(folder, study_id, counted_by)
    show_findings(folder.name, study_id, counted_by)
    return f"{folder.name}/{path}"


def _ran(run: str) -> _FinishedRun:
    """Return the study of a flow run. Raises StudyError where it is none."""
    try:
        with get_client(sync_client=True) as client:
            found = client.read_flow_run(UUID(run))
    except (ValueError, ObjectNotFound) as error:
        raise StudyError(
            f"no flow run {run!r} on this server. Give the id of a run of collapse-study, or the "
            "study's name."
        ) from error
    asked = found.parameters.get("study")
    name = asked.get("name") if isinstance(asked, dict) else None
    study = found.labels.get(STUDY_LABEL, name)
    if not isinstance(study, str):
        raise StudyError(
            f"flow run {found.name!r} ran no study. Give the id of a run of collapse-study, or the "
            "study's name."
        )
    return _FinishedRun(study, str(found.parameters.get("results", _DEFAULT_RESULTS)))
