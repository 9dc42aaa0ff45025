"""Run page: the progress of the work, then a study's findings and a link to its report.

A server that does not answer costs a run what its page would show and a line in the log, nothing
else: progress is sent by a thread of its own, so that the work never waits for the server.
"""

import contextvars
import dataclasses
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from editcollapse.runtime.environment import OVERALL, Report, listening
from editcollapse.runtime.settings import settings
from editcollapse.study.results_folder import is_url, results_name
from reports.index import report_path
from reports.page import report_markdown, table_cells
from reports.sections import incidence_table
from reports.text import artifact_key, markdown_text
from storage.ask import StudyFindings

logger = logging.getLogger(__name__)

EVERY_S = 5.0
"""Seconds between two updates, at least."""
_PATIENCE_S = 15.0
"""Seconds that the end of a run waits for the last update, at most."""
_WHOLE = 100.0


def show_findings(results: str, found: StudyFindings) -> None:
    """Put a study's findings on the page of the flow run that runs, also where all was cached.

    A server that does not take them is logged and no more: results and report are on disk.

    Args:
        results: path or URL of the results folder.
        found: the study as it is published.
    """
    name = markdown_text(found.name)
    page = f"{results_name(results)}/{report_path(found.name)}"
    try:
        create_link_artifact(
            key=artifact_key("report", found.name),
            link=report_link(results, found.name),
            link_text=f"Report of {name}" if settings().reports_url else markdown_text(page),
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
    served = settings().reports_url
    if served:
        return f"{served.rstrip('/')}/{quote(PurePosixPath(path).name, safe='')}"
    folder = results_name(results)
    if is_url(folder):
        return f"{quote(folder, safe=':/')}/{quote(path)}"
    return (Path(folder) / path).as_uri()


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Jobs that are a part of what a flow reports as a whole."""

    done_before: int
    """Jobs of the whole that were done when the part began."""
    n_jobs: int


@contextmanager
def shown_progress(kind: str, name: str, part: Part | None = None) -> Iterator[None]:
    """Show the progress of the block on the page of the flow run that runs.

    Args:
        kind: what the work is, such as ``study`` or ``model``.
        name: of what; with ``kind`` it makes the artifact's key.
        part: what the block is of all that the flow reports; left out, it is the whole.
    """
    page = _ProgressPage(kind, name, part)
    context = contextvars.copy_context()  # the run and the settings that the artifact belongs to
    thread = threading.Thread(target=context.run, args=(page.keep,), name="progress", daemon=True)
    thread.start()
    try:
        with listening(page.listen):
            yield
        page.finish()
    finally:
        page.end()
        thread.join(_PATIENCE_S)
        if thread.is_alive():
            logger.warning("the server does not answer: progress of %s is left as it is", name)


class _ProgressPage:
    """The progress last reported, and the artifact that shows it."""

    def __init__(self, kind: str, name: str, part: Part | None) -> None:
        self._key = artifact_key("progress", kind, name)
        self._about = f"Progress of {kind} {markdown_text(name)}"
        self._part = part
        self._done, self._total = 0, 0 if part is None else part.n_jobs
        self._job_share = 0.0
        self._doing = ""
        self._is_finished = False
        self._ended = threading.Event()

    def listen(self, report: Report) -> None:
        """Take a report of the work; called often, by whatever thread works."""
        if report.what != OVERALL:
            self._doing, self._job_share = str(report), report.share
            return
        if self._part is None:
            self._done, self._total = report.done, report.total
        else:
            self._done = report.done - self._part.done_before
        self._job_share = 0.0

    def finish(self) -> None:
        """Say that the work has been done to its end."""
        self._is_finished = True

    def end(self) -> None:
        """Let the thread bring the artifact up to date once more, and stop."""
        self._ended.set()

    def keep(self) -> None:
        """Keep the artifact up to date until the end. Whatever the server does, this only logs."""
        artifact_id: Any = None
        is_reported = False
        while True:
            is_last = self._ended.wait(0.0 if artifact_id is None else EVERY_S)
            try:
                artifact_id = self._show(artifact_id)
            except Exception as error:  # noqa: BLE001  whatever the way to the server raises
                if not is_reported:
                    logger.warning("progress is not shown for now (%s): %s", self._key, error)
                is_reported = True
                if artifact_id is None and not is_last:
                    self._ended.wait(EVERY_S)
            else:
                is_reported = False
            if is_last:
                return

    def _show(self, artifact_id: UUID | None) -> UUID:
        """Make the artifact, or bring it up to date; return its id."""
        started = time.perf_counter()
        percent, description = self._percent(), self._description()
        if artifact_id is None:
            made: Any = create_progress_artifact(percent, self._key, description)
            artifact_id = made
        else:
            update_progress_artifact(artifact_id, percent, description)
        logger.debug("%s: updated in %.3f s", self._key, time.perf_counter() - started)
        return artifact_id

    def _percent(self) -> float:
        if self._is_finished:
            return _WHOLE
        if not self._total:
            return 0.0
        share = (self._done + min(self._job_share, 1.0)) / self._total
        return round(min(max(_WHOLE * share, 0.0), _WHOLE), 1)

    def _description(self) -> str:
        if self._is_finished:
            return f"{self._about}: done"
        if self._ended.is_set():
            return f"{self._about}: stopped after {self._done} of {self._total} jobs"
        if not self._total:
            return f"{self._about}: starting"
        now = f"; now {markdown_text(self._doing)}" if self._doing else ""
        return f"{self._about}: {self._done} of {self._total} jobs{now}"
