"""One process at a time tidies up or backs up a results folder; a study waits for neither."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from editcollapse.errors import ResultsError
from storage.database import STORE, StoreBusyError

_LOCK = STORE.with_name("upkeep.lock")


@contextmanager
def hold_upkeep(results: Path) -> Iterator[None]:
    """Hold the lock of those who remove files, or who need that none goes, for the block.

    Raises:
        StoreBusyError: another process holds it.
        ResultsError: the folder cannot be written.
    """
    lock = filelock.FileLock(results / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise StoreBusyError(
            f"{results} is being backed up or tidied up by another process. Wait for its end, "
            "then try again."
        ) from error
    except OSError as error:
        raise ResultsError(
            f"cannot write to {results / _LOCK.parent}: {error.strerror or error}. Give the folder "
            "of a study, with permission to write: --results DIR."
        ) from error
    try:
        yield
    finally:
        lock.release()
