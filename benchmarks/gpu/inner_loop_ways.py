"""Ways to work out the loss of v* and its gradient: as it is, compiled, as a CUDA graph.

Each is prepared for a leaf (B, D) of deltas that others may change in place between runs.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.measuring import one_group
from benchmarks.gpu.reporting import NotHereError
from benchmarks.machine import settle
from editcollapse.forward import packed_attention
from editcollapse.forward.suffix import split_rewrites
from editcollapse.models.loading import LoadedModel, widened
from editcollapse.rome.value_loss import Objective

_WARM_UPS = 3
_START = 0.5
"""Norm of the deltas where passes are compared, in norms of the bare values."""

Found = tuple[Tensor, Tensor]
"""The terms of the loss (4, B), on the CPU or not yet, and the gradient of its sum, (B, D)."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """The optimisation of v* of B edits, at some deltas."""

    loaded: LoadedModel
    layer: int
    problem: Objective
    start: Tensor
    """(B, D)."""
    n_tokens: int
    """Of the suffixes."""

    @classmethod
    def of(cls, case: GpuCase) -> "Loop":
        """Return the optimisation of edits that run together; it has run once, at zero."""
        rewrites = one_group(case)
        suffix, subject = split_rewrites(case.hooked, rewrites)
        values = widened(subject.value[:, 0])
        problem = Objective(suffix, rewrites, case.values, values.norm(dim=1))
        # The first pass keeps what the KL compares with.
        problem.terms(torch.zeros_like(values, requires_grad=True))
        generator = torch.Generator(device=values.device).manual_seed(0)
        start = torch.randn(values.shape, generator=generator, device=values.device).to(values)
        start *= _START * problem.value_norm[:, None] / start.norm(dim=1, keepdim=True)
        return cls(case.loaded, case.layer, problem, start, len(suffix.positions))

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.start.device


Way = Callable[[Loop, Tensor], AbstractContextManager[Callable[[], Found]]]
"""Prepares a way to work out the loss and the gradient of a leaf (B, D)."""


@contextmanager
def eager(loop: Loop, delta: Tensor) -> Iterator[Callable[[], Found]]:
    """Give the pass as ``optimise_values`` runs it."""
    active = torch.arange(len(delta))

    def run() -> Found:
        terms, total = loop.problem.loss(delta, active)
        four = [terms.nll, terms.kl, terms.weight_decay, terms.target_probability]
        return torch.stack(four), _gradient(total, delta)

    yield run


@contextmanager
def read_late(loop: Loop, delta: Tensor) -> Iterator[Callable[[], Found]]:
    """Give the pass that leaves its terms on the device."""
    yield lambda: queued(loop, delta)


@contextmanager
def compiled(loop: Loop, delta: Tensor) -> Iterator[Callable[[], Found]]:
    """Give the pass with compiled blocks; the model's blocks are as before afterwards."""
    blocks = list(loop.loaded.blocks)[loop.layer + 2 : -1]
    if not blocks:
        raise NotHereError("no block between the entry block and the last one")
    backend = "inductor" if loop.device.type == "cuda" else "aot_eager"
    # Attention writes into buffers and knows of segments: torch.compile goes around it.
    aside: Any = torch.compiler.disable
    whole = mock.patch.object(packed_attention, "_attend", aside(packed_attention._attend))  # noqa: SLF001
    with whole, warnings.catch_warnings(action="ignore"):  # torch.compile reads .grad of anything
        try:
            for block in blocks:
                block.compile(backend=backend, dynamic=False)
            yield lambda: queued(loop, delta)
        finally:
            for block in blocks:
                block._compiled_call_impl = None  # noqa: SLF001  torch has no public way back
            torch.compiler.reset()


@contextmanager
def graphed(loop: Loop, delta: Tensor) -> Iterator[Callable[[], Found]]:
    """Give the pass as a replayed CUDA graph."""
    if loop.device.type != "cuda":
        raise NotHereError("needs CUDA")
    new_stream: Any = torch.cuda.Stream
    stream = new_stream(loop.device)
    stream.wait_stream(torch.cuda.current_stream(loop.device))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            queued(loop, delta)
        # A pass that waits cannot be captured, and a failed capture leaves traces: ask first.
        with _no_waiting():
            queued(loop, delta)
        with torch.cuda.graph(graph, stream=stream):
            found = queued(loop, delta)
    settle(loop.device)

    def run() -> Found:
        graph.replay()
        return found

    try:
        yield run
    finally:
        settle(loop.device)
        graph.reset()


def queued(loop: Loop, delta: Tensor) -> Found:
    """Return the terms, still on the device, and the gradient; an accelerator is not waited for."""
    terms, total = loop.problem.terms(delta)
    return terms, _gradient(total, delta)


def _gradient(total: Tensor, delta: Tensor) -> Tensor:
    return torch.autograd.grad(total.sum(), delta)[0]


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Let whatever waits for CUDA raise RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(action="ignore"):  # torch calls it a prototype
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


WAYS: dict[str, Way] = {
    "eager": eager,
    "read late": read_late,
    "cuda graph": graphed,
    "compile": compiled,
}
