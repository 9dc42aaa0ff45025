"""What a run page shows of a study's findings: a table, the report as text, a link to its file."""

import logging
import os
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from prefect import get_client
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.context import FlowRunContext

from editcollapse.study.results_folder import is_url, place_name, place_of
from reports.page import report_markdown, report_path, table_cells
from reports.sections import incidence_table
from reports.text import artifact_key, markdown_text
from storage.ask import findings

logger = logging.getLogger(__name__)

REPORTS_URL = "EDITCOLLAPSE_REPORTS_URL"
"""Variable that says where the reports folder is served; left out, links are ``file://``."""
STUDY_LABEL = "editcollapse.study_id"
"""Label of a flow run that says which study it ran."""


def show_findings(results: str, study_id: str) -> None:
    """Put a study's findings on the page of the flow run that runs, also where all was cached.

    A server that does not take them is logged and no more: results and report are on disk.
    """
    found = findings(place_of(results).here, study_id)
    name = markdown_text(found.name)
    page = f"{place_name(results)}/{report_path(found.name)}"
    try:
        create_link_artifact(
            key=artifact_key("report", found.name),
            link=report_link(results, found.name),
            link_text=f"Report of {name}" if os.environ.get(REPORTS_URL) else markdown_text(page),
            description=f"Report of study {name}: one HTML file that needs no network",
        )
        create_markdown_artifact(
            key=artifact_key("findings", found.name),
            markdown=report_markdown(found),
            description=f"Findings of study {name}: what was run, what was found, the SQL behind",
        )
        create_table_artifact(
            key=artifact_key("incidence", found.name),
            table=table_cells(incidence_table(found)),
            description=f"Collapse incidence of study {name}, by model and method",
        )
    except Exception as error:  # noqa: BLE001  whatever the server or the way to it raises
        logger.warning("the run page does not show the findings of %s: %s", found.name, error)


def report_link(results: str, study_name: str) -> str:
    """Return the address of a study's report: as it is served, else where the file lies."""
    path = report_path(study_name)
    served = os.environ.get(REPORTS_URL)
    if served:
        return f"{served.rstrip('/')}/{quote(PurePosixPath(path).name, safe='')}"
    place = place_name(results)
    if is_url(place):
        return f"{quote(place, safe=':/')}/{quote(path)}"
    return (Path(place) / path).as_uri()


def name_the_study(study_id: str) -> None:
    """Label the flow run that runs with the study's id, for whoever reports on it later."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(context.flow_run.id, {STUDY_LABEL: study_id})
