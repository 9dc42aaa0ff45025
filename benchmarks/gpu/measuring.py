"""Cost of a piece of work: seconds, peak memory, the device's share in it, its kernels."""

import dataclasses
import gc
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.case import GpuCase
from benchmarks.machine import settle, timed
from benchmarks.results import Spread
from editcollapse.forward.rewrites import Rewrite

_ALLOWED = 1e-3
"""Relative, of float32."""
_MIB = 1 << 20
_LEAST_S = 0.1
_MOST_RUNS = 20
REPEATS = 5
_PROFILED = 2
_MICROSECONDS = 1e6


@dataclasses.dataclass(frozen=True, slots=True)
class Once:
    """Of one call."""

    seconds: float
    peak_bytes: int | None
    """On top of what was on the device before; None on a CPU."""


def once(work: Callable[[], object], device: torch.device) -> Once:
    """Return the seconds of a call, the device's queue included, and its peak memory."""
    if device.type != "cuda":
        return Once(timed(work, device), None)
    gc.collect()  # the allocator keeps its blocks: asking CUDA for new ones takes time
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    seconds = timed(work, device)
    return Once(seconds, torch.cuda.max_memory_allocated(device) - before)


@dataclasses.dataclass(frozen=True, slots=True)
class Repeated:
    """Of one run of a piece of work that is repeated, warm."""

    seconds: Spread
    """The queue of the device included."""
    busy_s: float | None
    """Seconds that the device works, as the profiler counts them; None where it cannot tell."""
    n_kernels: int | None
    """Kernels and copies on the device; None likewise."""
    more_mib: float | None
    """Memory that a run takes on top of what is there before it; None on a CPU."""

    @property
    def busy(self) -> float | None:
        """Share of the time that the device works."""
        return None if self.busy_s is None else self.busy_s / self.seconds.median

    def note(self, n_edits: int, n_tokens: int, first_s: float, difference: float) -> str:
        """Return what was measured and how, for people.

        Args:
            n_edits: of the batch.
            n_tokens: of the suffixes.
            first_s: seconds of the first run.
            difference: from what the result has to be.
        """
        kernels = "" if self.n_kernels is None else f", {self.n_kernels} kernels"
        return (
            f"{n_edits} edits, {n_tokens} suffix tokens; "
            f"{self.seconds.n_repeats} repeats{kernels}; "
            f"first run {first_s:.2g} s; differs by {difference:.0e}"
        )


def repeated(
    work: Callable[[], object], device: torch.device, n_repeats: int = REPEATS
) -> Repeated:
    """Return the cost of a piece of work that has run before.

    Args:
        work: without effects on later runs' time.
        device: it runs on.
        n_repeats: of enough runs each.
    """
    one_s = timed(work, device)
    n_runs = max(1, min(_MOST_RUNS, int(_LEAST_S / one_s)))

    def runs() -> None:
        for _ in range(n_runs):
            work()

    seconds = Spread.of([timed(runs, device) / n_runs for _ in range(n_repeats)])
    if device.type != "cuda":
        return Repeated(seconds, None, None, None)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    timed(work, device)
    more = (torch.cuda.max_memory_allocated(device) - before) / _MIB
    return Repeated(seconds, *_device_use(work, device), more)


def _device_use(
    work: Callable[[], object], device: torch.device
) -> tuple[float | None, int | None]:
    """Return the seconds that a device works in one run, and its kernels and copies."""
    try:
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            for _ in range(_PROFILED):
                work()
            settle(device)
        events = [
            each
            for each in seen.key_averages()
            if each.device_type.name == "CUDA" and not each.is_user_annotation
        ]
    except Exception:  # noqa: BLE001  no tracing on this machine: the seconds hold without
        return None, None
    busy = sum(each.self_device_time_total for each in events) / _MICROSECONDS / _PROFILED
    return (busy, sum(each.count for each in events) // _PROFILED) if busy else (None, None)


def one_group(case: GpuCase) -> list[Rewrite]:
    """Return rewrites that run together in a pass of v*: all, or the middle one of the groups."""
    groups = case.groups()
    return [case.rewrites[index] for index in groups[len(groups) // 2]]


class WrongError(Exception):
    """A way of doing something computes something else."""


def check_close(difference: float, dtype: torch.dtype, half: float) -> None:
    """Raise WrongError where a result is too far from what it has to be.

    Args:
        difference: largest relative one; nan is too far.
        dtype: of the weights.
        half: what is allowed where that is a half type.
    """
    allowed = _ALLOWED if dtype == torch.float32 else half
    if not difference <= allowed:
        raise WrongError(f"differs by {difference:.1e}, {allowed:.0e} is allowed")
