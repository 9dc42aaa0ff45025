"""How the threads of torch's OpenMP wait, and how many there are, on a machine that others use too.

An OpenMP thread that waits for the others of its team spins: by default for some milliseconds
(GNU, which torch has on Linux) or 200 (LLVM and Intel). Where more threads than cores want to run,
each spin takes its time from the thread that it waits for: docs/results.md has the figures. The
runtimes read the environment once, when torch is imported. The standard library is enough here.
"""

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

GNU_SPINS = "3000"
"""Turns of a waiting thread before it sleeps (``GOMP_SPINCOUNT``): some ten microseconds."""

LLVM_SPIN_MS = "1"
"""Milliseconds before a waiting thread sleeps, the least but none (``KMP_BLOCKTIME``)."""

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_GROUPS = Path("/sys/fs/cgroup")


def share_cores(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let waiting threads sleep soon, and start no more of them than this process has cores for.

    What the environment says already stands: a user's ``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT`` or
    ``KMP_BLOCKTIME`` for the waiting, ``OMP_NUM_THREADS`` for the threads. OpenMP knows the CPUs
    that a process is bound to; what it does not know is a container's quota of CPU time
    (``docker --cpus``, a Kubernetes limit), so the number is set where that is less. Processes that
    this one starts inherit both. Without effect on this process where torch is imported already.
    """
    if not any(name in environment for name in _WAITING):
        environment["GOMP_SPINCOUNT"] = GNU_SPINS
        environment["KMP_BLOCKTIME"] = LLVM_SPIN_MS
    quota = cpu_quota()
    if quota is not None and math.ceil(quota) < usable_cpus():
        environment.setdefault("OMP_NUM_THREADS", str(math.ceil(quota)))


def usable_cpus() -> int:
    """Return the number of CPUs that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def cpu_quota(groups: Path = _GROUPS) -> float | None:
    """Return the CPUs' worth of time that this container may use; None where there is no limit.

    Args:
        groups: where Linux shows control groups, of version 2 or 1.
    """
    try:
        quota, period = (groups / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota = (groups / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (groups / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii")
        except OSError:
            return None
    try:
        share = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # the word max
        return None
    return share if share > 0 else None
