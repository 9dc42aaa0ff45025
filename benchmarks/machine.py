"""The machine and its clock: what it is, how fast it multiplies, how long a call takes."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from benchmarks.results import Machine

_PRODUCT = 2048
_LEAST_S = 0.3


def describe(device: torch.device) -> Machine:
    """Return the facts of this machine and process."""
    return Machine(
        cpu=_cpu_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=device_name(device),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        product_gflops=product_rate(_PRODUCT, _PRODUCT, _PRODUCT, device) / 1e9,
    )


def device_name(device: torch.device) -> str:
    """Return the name of a device; ``cpu`` and its kind for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def product_rate(
    n_rows: int,
    n_inner: int,
    n_columns: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> float:
    """Return the FLOP/s of a plain product of (n_rows, n_inner) by (n_inner, n_columns).

    Of random numbers: a GPU multiplies zeros and ones faster, since it draws less power.
    """
    left = torch.randn((n_rows, n_inner), device=device).to(dtype)
    right = torch.randn((n_inner, n_columns), device=device).to(dtype)
    flops = 2.0 * n_rows * n_inner * n_columns
    _ = left @ right
    best, spent = float("inf"), 0.0
    while spent < _LEAST_S:
        seconds = timed(lambda: left @ right, device)
        best, spent = min(best, seconds), spent + seconds
    return flops / best


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call takes, the device's queue included."""
    settle(device)
    start = time.perf_counter()
    work()
    settle(device)
    return time.perf_counter() - start


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _cpu_name() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
