"""What a piece of work costs: seconds, peak memory, the device's share in it, its kernels."""

import dataclasses
import gc
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.case import GpuCase
from benchmarks.machine import settle, timed
from benchmarks.results import Spread
from editcollapse.devices import tokens_per_forward
from editcollapse.rewrites import Rewrite, pass_groups

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

    def told(self) -> str:
        """Return repeats and what the device did, for a note."""
        kernels = "" if self.n_kernels is None else f", {self.n_kernels} kernels"
        return f"{self.seconds.n_repeats} repeats{kernels}"


def repeated(
    work: Callable[[], object], device: torch.device, n_repeats: int = REPEATS
) -> Repeated:
    """Return the cost of a piece of work that has run before.

    Args:
        work: without effects on later runs' time.
        device: it runs on.
        n_repeats: of enough runs each.
    """
    once = timed(work, device)
    n_runs = max(1, min(_MOST_RUNS, int(_LEAST_S / once)))

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


def reserved_mib(device: torch.device) -> float | None:
    """Return the memory that torch holds on a device, its unused cache given back; None on a CPU.

    A CUDA graph's own memory counts.
    """
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved(device) / _MIB


def one_group(case: GpuCase) -> list[Rewrite]:
    """Return rewrites that run together in a pass of v*: all, or the middle one of the groups."""
    budget = tokens_per_forward(case.loaded.device, case.loaded.size(case.layer), "values")
    groups = pass_groups(case.rewrites, budget)
    return [case.rewrites[place] for place in groups[len(groups) // 2]]
