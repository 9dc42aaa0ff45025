"""Which studies run in a results folder, for those who tidy it up.

A running study holds a lock file of its own, named after the time when it began. The lock ends
with its process, however that ends; the file system must have real locks (as in ``locks``).
"""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import filelock

from editcollapse.study.artifacts import unwritable
from editcollapse.study.results_folder import LOCKS

RUNNING = Path(LOCKS) / "studies"
"""Folder of these locks below the results folder."""


@contextlib.contextmanager
def running_study(results: Path) -> Iterator[None]:
    """Let others know, for the block, that a study runs in a results folder.

    Raises:
        ResultsError: the folder cannot be written.
    """
    path = results / RUNNING / f"{int(time.time())}-{os.getpid()}-{uuid.uuid4().hex}.lock"
    lock = filelock.FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise unwritable(str(results), error) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the file is no harm; the folder may have gone
            path.unlink(missing_ok=True)
        lock.release()


def oldest_running(results: Path) -> float | None:
    """Return when the oldest study that runs began, in seconds since 1970; None if none runs."""
    starts = [
        int(path.name.split("-")[0])
        for path in (results / RUNNING).glob("*.lock")
        if path.name.split("-")[0].isdecimal() and not is_free(path)
    ]
    return min(starts, default=None)


def is_free(lock_file: Path) -> bool:
    """Return whether nobody holds a lock file."""
    try:
        with filelock.FileLock(lock_file).acquire(timeout=0):
            return True
    except (filelock.Timeout, OSError):
        return False
