"""Rows on their way into the database: entered a few batches at a time, while a study runs.

Every row lies in a file before it comes here, so a run that is killed loses none: the next one
finds them unrecorded. A transaction for every batch of a small model would cost as much as a tenth
of its edits.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from prefect import Task

from editcollapse.fingerprints import digest
from editcollapse.study.artifacts import ArtifactRef
from editcollapse.study.jobs import RecordOrder
from tasks.results import is_recorded, record_rows

_EVERY_S = 30.0
"""Seconds between two entries, at least; what is left is entered when a model is done."""
_PUBLISH_EVERY_S = 60.0
"""Seconds between two snapshots while a study runs; its report publishes the last one."""


class RowsToRecord:
    """Row files of a study that are to be in the database.

    Args:
        results: path or URL of the results folder.
        run: runs one task to its end.
    """

    def __init__(self, results: str, run: Callable[[Task[[Any], Any], RecordOrder], Any]) -> None:
        self._results = results
        self._run = run
        self._waiting: list[ArtifactRef] = []
        self._digests: set[str] = set()
        self._entered = self._published = time.monotonic()

    @property
    def digest(self) -> str:
        """Digest of all row files so far, in whatever order and groups they were entered."""
        return digest(sorted(self._digests))

    def add(self, rows: Sequence[ArtifactRef]) -> None:
        """Take more row files; enter all that wait where the last entry is some time ago."""
        self._waiting += rows
        self._digests.update(ref.digest for ref in rows)
        if time.monotonic() - self._entered > _EVERY_S:
            self.enter()

    def enter(self) -> None:
        """Enter all that wait, unless the database has it.

        Raises:
            ResultsError: the database cannot be written; what waited waits on.
        """
        if not self._waiting:
            return
        publish = time.monotonic() - self._published > _PUBLISH_EVERY_S
        rows = tuple(self._waiting)
        order = RecordOrder(results=self._results, rows=rows, publish=publish)
        if not is_recorded(order):
            self._run(record_rows, order)
        self._waiting = []
        self._entered = time.monotonic()
        if publish:
            self._published = self._entered
