"""One policy for types: what is wide, what may be half, and no TF32 unless it is asked for.

Weights and the forwards through them have the type of the study file. Keys, values, deltas,
logits and products with keys are float32 or better (``loading.widened``); solves and diagnostics
are float64 on the CPU. TF32 keeps 10 bits of a float32's 23: the update divides by a small
difference of keys, so products of float32 are exact unless EDITCOLLAPSE_TF32=1.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from editcollapse.runtime.settings import settings

_lock = threading.Lock()
_saved: list[Any] = []
_depth = 0


@contextmanager
def float32_products() -> Iterator[None]:
    """Let products of float32 tensors be float32, or TF32 where that is asked for.

    The switches are the process's, so the first to enter sets them and the last to leave puts
    them back; units in several threads want the same. Also a decorator.

    Raises:
        StudyError: EDITCOLLAPSE_TF32 holds neither 0 nor 1.
    """
    global _depth  # noqa: PLW0603  the switches are global too
    wanted = settings().tf32
    with _lock:
        if _depth == 0:
            _saved.extend(_read())
            _write(wanted=wanted)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                for (holder, name), value in zip(_switches(), _saved, strict=True):
                    setattr(holder, name, value)
                _saved.clear()


def _switches() -> list[tuple[Any, str]]:
    """Return torch's precision switches: one for each kind of product.

    torch 2.9 gave them new names and warns where the old ones are mixed in. The last is the
    CPU's, which may round float32 to bfloat16.
    """
    backends: Any = torch.backends
    if hasattr(backends.cuda.matmul, "fp32_precision"):
        holders = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul)
        return [(holder, "fp32_precision") for holder in holders]
    return [(backends.cuda.matmul, "allow_tf32"), (backends.cudnn, "allow_tf32")]


def _read() -> list[Any]:
    return [getattr(holder, name) for holder, name in _switches()]


def _write(*, wanted: bool) -> None:
    on_cpu: Any = torch.backends.mkldnn
    for holder, name in _switches():
        value: Any = wanted
        if name == "fp32_precision":
            value = "tf32" if wanted and holder is not on_cpu.matmul else "ieee"
        setattr(holder, name, value)
