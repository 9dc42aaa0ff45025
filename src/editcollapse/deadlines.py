"""A time limit for one unit of work, kept inside the process that computes it.

EDITCOLLAPSE_UNIT_TIMEOUT_S sets it; without it there is none. Prefect's task timeouts cannot stop
what runs in a worker's thread. A unit that reports its progress ends with an error. One that hangs
where no Python runs (a GPU that answers no more) ends its process: the run is then crashed, its
device is free, and the next run goes on from there.
"""

import contextlib
import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator

from editcollapse.errors import UnitTimeoutError
from editcollapse.runtime import asked_timeout

logger = logging.getLogger(__name__)

GRACE_S = 60.0
"""Seconds that a unit has, after its limit, to notice it."""
HUNG = 75
"""Exit status of a process that was ended: EX_TEMPFAIL."""

_current = threading.local()


@contextlib.contextmanager
def time_limit(what: str, grace_s: float = GRACE_S) -> Iterator[None]:
    """Limit the time of the block, which runs on this thread.

    Args:
        what: the unit, for messages.
        grace_s: seconds after the limit at which the process is ended.

    Raises:
        UnitTimeoutError: from ``check_time``, called in the block.
        StudyError: EDITCOLLAPSE_UNIT_TIMEOUT_S is no positive number.
    """
    limit_s = asked_timeout()
    if limit_s is None:
        yield
        return
    watchdog = threading.Timer(limit_s + grace_s, _end_process, args=(what, limit_s))
    watchdog.daemon = True
    watchdog.start()
    _current.limit = (what, limit_s, time.monotonic() + limit_s)
    try:
        yield
    finally:
        watchdog.cancel()
        _current.limit = None


def check_time() -> None:
    """Raise UnitTimeoutError if the unit of this thread has had its time."""
    limit = getattr(_current, "limit", None)
    if limit is None:
        return
    what, limit_s, end = limit
    if time.monotonic() > end:
        raise UnitTimeoutError(
            f"{what} took longer than {limit_s:g} s (EDITCOLLAPSE_UNIT_TIMEOUT_S). Raise the "
            "limit, or make `batch_size` smaller; finished work is kept."
        )


def _end_process(what: str, limit_s: float) -> None:
    """End this process, after saying where it hangs."""
    logger.critical(
        "%s hangs: its limit of %g s has passed and it does not answer. Ending the process; run "
        "the study again, it goes on from there.",
        what,
        limit_s,
    )
    if sys.__stderr__ is not None:
        faulthandler.dump_traceback(sys.__stderr__)
    os._exit(HUNG)
