"""How far long work is, on its run page: a progress artifact, brought up to date now and then.

A thread of its own talks to the server, so that the work never waits for it; a server that does not
answer costs the run its progress bar and a line in the log, and nothing else.
"""

import contextvars
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from editcollapse.runtime.environment import OVERALL, listening
from reports.text import artifact_key, markdown_text

logger = logging.getLogger(__name__)

EVERY_S = 5.0
"""Seconds between two updates, at least."""
_PATIENCE_S = 15.0
"""Seconds that the end of a run waits for the last update, at most."""
_WHOLE = 100.0


@contextmanager
def shown_progress(kind: str, name: str, *, jobs: int | None = None) -> Iterator[None]:
    """Show the progress of the block on the page of the flow run that runs.

    Args:
        kind: what the work is, such as ``study`` or ``model``.
        name: of what; with ``kind`` it makes the artifact's key.
        jobs: jobs of the block itself, where it is a part of what the flow reports as a whole;
            left out, it is the whole.
    """
    page = _ProgressPage(kind, name, jobs)
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
    """What was last reported, and the artifact that shows it."""

    def __init__(self, kind: str, name: str, jobs: int | None) -> None:
        self._key = artifact_key("progress", kind, name)
        self._about = f"Progress of {kind} {markdown_text(name)}"
        self._jobs = jobs
        self._entered: tuple[int, int] | None = None
        self._done, self._total = 0, jobs or 0
        self._part = 0.0
        self._doing = ""
        self._is_finished = False
        self._ended = threading.Event()

    def listen(self, what: str, done: int, total: int) -> None:
        """Take a report of the work; called often, by whatever thread works."""
        if what != OVERALL:
            self._doing, self._part = what, done / total if total else 0.0
            return
        if self._jobs is None:
            self._done, self._total = done, total
        else:
            # A part of the whole: what it began with, and whatever the whole has gained since.
            self._entered = self._entered or (done - 1, total)
            self._done = done - self._entered[0]
            self._total = self._jobs + total - self._entered[1]
        self._part = 0.0

    def finish(self) -> None:
        """Say that the work has been done to its end."""
        self._is_finished = True

    def end(self) -> None:
        """Let the thread bring the artifact up to date once more, and stop."""
        self._ended.set()

    def keep(self) -> None:
        """Keep the artifact up to date until the end. Whatever the server does, this only logs."""
        artifact_id: Any = None
        is_told = False
        while True:
            is_last = self._ended.wait(0.0 if artifact_id is None else EVERY_S)
            try:
                artifact_id = self._show(artifact_id)
            except Exception as error:  # noqa: BLE001  whatever the way to the server raises
                if not is_told:
                    logger.warning("progress is not shown for now (%s): %s", self._key, error)
                is_told = True
                if artifact_id is None and not is_last:
                    self._ended.wait(EVERY_S)
            else:
                is_told = False
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
        share = (self._done + min(self._part, 1.0)) / self._total
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
