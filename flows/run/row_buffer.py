"""Rows on their way to readers: published about once a minute while a study runs.

Every row lies in a file before it comes here, so a run that is killed loses none: whoever publishes
next takes in all row files of the folder.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from prefect import Task

from editcollapse.fingerprints import digest
from editcollapse.study.artifacts import ArtifactRef
from editcollapse.study.jobs import RecordJob
from tasks.results import is_recorded, record_rows

_PUBLISH_EVERY_S = 60.0
"""Seconds between two publications, at least; a study's report makes the last one."""


class RowsToRecord:
    """Row files of a study that are to be in the database.

    Args:
        results: path or URL of the results folder.
        run: runs one task to its end.
    """

    def __init__(self, results: str, run: Callable[[Task[[Any], Any], RecordJob], Any]) -> None:
        self._results = results
        self._run = run
        self._waiting: list[ArtifactRef] = []
        self._digests: set[str] = set()
        self._published = time.monotonic()

    @property
    def digest(self) -> str:
        """Digest of all row files so far, in whatever order and groups they were published."""
        return digest(sorted(self._digests))

    def add(self, rows: Sequence[ArtifactRef]) -> None:
        """Take more row files; publish all that wait where the last time is a minute ago."""
        self._waiting += rows
        self._digests.update(ref.digest for ref in rows)
        if time.monotonic() - self._published > _PUBLISH_EVERY_S:
            self.publish()

    def publish(self) -> None:
        """Publish all that wait, unless readers see them already.

        Raises:
            ResultsError: the database cannot be written; what waited waits on.
        """
        if not self._waiting:
            return
        job = RecordJob(results=self._results, rows=tuple(self._waiting))
        if not is_recorded(job):
            self._run(record_rows, job)
        self._waiting = []
        self._published = time.monotonic()
