"""Seconds and peak memory of a piece of work on a device."""

import dataclasses
from collections.abc import Callable

import torch

from benchmarks.machine import timed
from editcollapse.devices import release


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """Of one call."""

    seconds: float
    peak_bytes: int | None
    """On top of what was on the device before; None on a CPU."""


def cost_of(work: Callable[[], object], device: torch.device) -> Cost:
    """Return the seconds of a call, the device's queue included, and its peak memory."""
    if device.type != "cuda":
        return Cost(timed(work, device), None)
    release(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    seconds = timed(work, device)
    return Cost(seconds, torch.cuda.max_memory_allocated(device) - before)
