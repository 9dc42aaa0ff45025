"""Facts of this process and machine: a job's progress, time limit and provenance."""

import contextlib
import dataclasses
import faulthandler
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from editcollapse import NUMERICS, __version__
from editcollapse.rows.study import ProvenanceRow
from editcollapse.runtime.settings import settings


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """How far some work is."""

    what: str
    """What is going on, and with which model: ``gpt2: v* of edit batch 2 of 4``."""
    done: int = 0
    total: int = 0
    """All there is to do; 0 where nobody knows."""
    counted: str = ""
    """One of what is counted: ``step``."""

    @property
    def share(self) -> float:
        """Share that is done, 0 to 1; 0 where nobody knows."""
        return self.done / self.total if self.total else 0.0

    def __str__(self) -> str:
        """For people: ``gpt2: v* of edit batch 2 of 4, step 12 of 25``."""
        if not self.total:
            return self.what
        return f"{self.what}, {self.counted} {self.done} of {self.total}"


Listener = Callable[[Report], None]

OVERALL = "study"
"""The name under which a flow reports how far it is as a whole."""

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of jobs to a listener for as long as the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def reporter(what: str, counted: str) -> Callable[[int, int], None]:
    """Return a callback that tells the listeners how far some work is: what is done, and all.

    Args:
        what: as in ``Report``.
        counted: likewise.
    """

    def report(done: int, total: int) -> None:
        tell(Report(what, done, total, counted))

    return report


def begun(what: str, counted: str = "") -> Callable[[int, int], None]:
    """Tell the listeners that some work begins; return what ``reporter`` does."""
    tell(Report(what))
    return reporter(what, counted)


def tell(report: Report) -> None:
    """Tell the listeners how far some work is."""
    for listener in _listeners:
        listener(report)


_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """End this process if the block takes longer than EDITCOLLAPSE_UNIT_TIMEOUT_S allows.

    It prints where every thread stands and leaves with status 1, also where no Python runs, as with
    a GPU that answers no more: Prefect's task timeouts cannot stop what runs in a worker's thread.
    A process has one such limit at a time.

    Raises:
        StudyError: the variable holds no positive number.
    """
    limit_s = settings().unit_timeout_s
    if limit_s is None:
        yield
        return
    faulthandler.dump_traceback_later(limit_s, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


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


@dataclasses.dataclass(frozen=True, slots=True)
class AskedFor:
    """The study whose run asked for a job, and the model that the job is about."""

    study: str | None = None
    """Name; None where no study asked."""
    study_id: str | None = None
    model: str | None = None
    """What that study calls it; None where the job is about no model that a study edits."""
    model_id: str | None = None


_NOBODY = AskedFor()


class ProvenanceClock:
    """Time and circumstances of one job.

    Args:
        unit_id: the unit's key.
        kind: covariance, edits, evaluation, ...
        seed: what was drawn with, 0 where nothing was.
        asked_for: on whose behalf it is computed.
    """

    def __init__(
        self, unit_id: str, kind: str, seed: int = 0, asked_for: AskedFor = _NOBODY
    ) -> None:
        self._unit_id = unit_id
        self._kind = kind
        self._seed = seed
        self._asked_for = asked_for
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._start = time.perf_counter()

    def row(self, summary: str, n_items: int, device: str) -> ProvenanceRow:
        """Return the row of a job that has just finished."""
        return ProvenanceRow(
            unit_id=self._unit_id,
            kind=self._kind,
            summary=summary,
            n_items=n_items,
            started_at=self._started_at,
            duration_s=time.perf_counter() - self._start,
            machine=machine(),
            device=device,
            numerics=NUMERICS,
            editcollapse_version=__version__,
            torch_version=_installed("torch"),
            transformers_version=_installed("transformers"),
            python_version=platform.python_version(),
            git_commit=git_commit(),
            seed=self._seed,
            **dataclasses.asdict(self._asked_for),
        )


def machine() -> str:
    """Return this machine in words: its host name, processor type and cores."""
    return f"{platform.node()} {platform.machine()} {os.cpu_count()} cores"


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
