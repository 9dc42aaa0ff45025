"""Facts of this process and machine: settings from the environment, and provenance of a unit.

Nothing here enters a key or an id.
"""

import contextlib
import faulthandler
import logging
import math
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from editcollapse import NUMERICS, __version__
from editcollapse.errors import StudyError, UnitTimeoutError
from editcollapse.rows.study import ProvenanceRow

logger = logging.getLogger(__name__)


_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def asked_device() -> str:
    """Return the device that EDITCOLLAPSE_DEVICE names; ``auto`` where it names none."""
    return os.environ.get("EDITCOLLAPSE_DEVICE", "auto")


def asked_tokens() -> int | None:
    """Return the padded tokens that EDITCOLLAPSE_TOKENS_PER_FORWARD allows; None where unset.

    Numbers do not depend on it beyond rounding.

    Raises:
        StudyError: the variable holds no positive whole number.
    """
    text = os.environ.get("EDITCOLLAPSE_TOKENS_PER_FORWARD")
    if text is None:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise StudyError(
            f"EDITCOLLAPSE_TOKENS_PER_FORWARD is {text!r}; it must be a positive whole number."
        )
    return int(text)


def asked_tf32() -> bool:
    """Return whether EDITCOLLAPSE_TF32 asks for TF32 products; it does not where it is unset.

    Raises:
        StudyError: the variable holds neither 0 nor 1.
    """
    text = os.environ.get("EDITCOLLAPSE_TF32", "0")
    if text not in {"0", "1"}:
        raise StudyError(f"EDITCOLLAPSE_TF32 is {text!r}; it must be 0 or 1.")
    return text == "1"


def asked_timeout() -> float | None:
    """Return the seconds that one unit may take, from EDITCOLLAPSE_UNIT_TIMEOUT_S; None if unset.

    Raises:
        StudyError: the variable holds no positive number.
    """
    text = os.environ.get("EDITCOLLAPSE_UNIT_TIMEOUT_S")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise StudyError(
            f"EDITCOLLAPSE_UNIT_TIMEOUT_S is {text!r}; it must be a positive number of seconds."
        )
    return seconds


def free_host_bytes() -> int | None:
    """Return the main memory that new work may take, in bytes; None where the system tells none.

    Linux: MemAvailable, or what the control group leaves where that is less. Elsewhere: the free
    pages, or all of them.
    """
    free = _meminfo("MemAvailable")
    if free is None:
        return _pages("SC_AVPHYS_PAGES", "SC_PHYS_PAGES")
    limit, used = _of_group("memory.max"), _of_group("memory.current")
    return free if limit is None or used is None else min(free, max(0, limit - used))


def host_bytes() -> int | None:
    """Return the main memory that this process may ever have, in bytes; None where nobody knows.

    Used or not: it is the same whenever it is asked.
    """
    whole = _meminfo("MemTotal")
    if whole is None:
        return _pages("SC_PHYS_PAGES")
    limit = _of_group("memory.max")
    return whole if limit is None else min(whole, limit)


def _meminfo(name: str) -> int | None:
    """Return a line of Linux's memory table in bytes."""
    try:
        text = _MEMINFO.read_text(encoding="ascii")
        return int(text.split(f"{name}:")[1].split()[0]) << 10
    except (OSError, IndexError, ValueError):
        return None


def _of_group(name: str) -> int | None:
    """Return a figure of this container's control group, in bytes; None without a limit."""
    try:
        return int((_CGROUP / name).read_text(encoding="ascii"))
    except (OSError, ValueError):  # no control group, or its limit is the word max
        return None


def _pages(*names: str) -> int | None:
    """Return the first of some counts of pages that the system knows, in bytes."""
    known = getattr(os, "sysconf_names", {})
    for name in names:
        if name in known and os.sysconf(name) > 0:
            return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    return None


class ProvenanceClock:
    """Time and circumstances of one unit of work.

    Args:
        unit_id: the unit's key.
        kind: covariance, edits, evaluation, ...
        seed: what was drawn with, 0 where nothing was.
    """

    def __init__(self, unit_id: str, kind: str, seed: int = 0) -> None:
        self._unit_id = unit_id
        self._kind = kind
        self._seed = seed
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._start = time.perf_counter()

    def row(self, summary: str, n_items: int, device: str) -> ProvenanceRow:
        """Return the row of a unit that has just finished."""
        return ProvenanceRow(
            unit_id=self._unit_id,
            kind=self._kind,
            summary=summary,
            n_items=n_items,
            started_at=self._started_at,
            duration_s=time.perf_counter() - self._start,
            machine=f"{platform.node()} {platform.machine()} {os.cpu_count()} cores",
            device=device,
            numerics=NUMERICS,
            editcollapse_version=__version__,
            torch_version=_installed("torch"),
            transformers_version=_installed("transformers"),
            python_version=platform.python_version(),
            git_commit=git_commit(),
            seed=self._seed,
        )


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@lru_cache(maxsize=1)
def git_commit() -> str | None:
    """Return the commit of the checkout that this package runs from, marked when it has changes."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],  # noqa: S607
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


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


Listener = Callable[[str, int, int], None]
"""Called with what is going on, how much is done, and all there is to do."""

OVERALL = "study"
"""The name under which a flow reports how far it is as a whole."""

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of units to a listener for as long as the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def reporter(what: str) -> Callable[[int, int], None]:
    """Return a callback that tells the listeners how far ``what`` is.

    It raises UnitTimeoutError where the unit at work has had its time.
    """

    def report(done: int, total: int) -> None:
        check_time()
        for listener in _listeners:
            listener(what, done, total)

    return report
