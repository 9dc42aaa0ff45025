"""One pass of v* in several ways: do CUDA graphs or torch.compile pay?

A pass is the loss of a batch of edits with its gradient, the loss's terms on the CPU, and a step of
Adam (``editcollapse.values``), while all edits are active.

- ``eager`` is what ``optimise_values`` does: it reads the terms before it asks for the gradient;
- ``read late`` asks for the gradient first, so that an accelerator waits once and not twice;
- ``compile`` has torch.compile run the blocks between the entry block and the last one, which run
  as copies; their attention stays as it is;
- ``cuda graph`` replays the kernels of a loss and its gradient that were recorded once.
"""

import dataclasses
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.cost import (
    Cost,
    NotHereError,
    cell,
    cost_of,
    one_group,
    reserved_mib,
    told,
)
from benchmarks.machine import settle
from editcollapse import attention
from editcollapse.live import split_rewrites
from editcollapse.models import LoadedModel, widened
from editcollapse.objective import Objective

_ALLOWED = {torch.float32: 1e-3}
_ALLOWED_HALF = 0.1
"""Of gradients through all blocks: fused kernels round elsewhere."""
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
    """Live ones."""

    @classmethod
    def of(cls, case: GpuCase) -> "Loop":
        """Return the optimisation of edits that run together; it has run once, at zero."""
        rewrites = one_group(case)
        live, subject = split_rewrites(case.site, rewrites)
        values = widened(subject.value[:, 0])
        problem = Objective(live, rewrites, case.values, values.norm(dim=1))
        # The first pass keeps what the KL compares with.
        problem.terms(torch.zeros_like(values, requires_grad=True))
        generator = torch.Generator(device=values.device).manual_seed(0)
        start = torch.randn(values.shape, generator=generator, device=values.device).to(values)
        start *= _START * problem.value_norm[:, None] / start.norm(dim=1, keepdim=True)
        return cls(case.loaded, case.layer, problem, start, len(live.positions))

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.start.device


Way = Callable[[Loop, Tensor], AbstractContextManager[Callable[[], Found]]]
"""Prepares a way to work out the loss and the gradient of a leaf (B, D)."""


@dataclasses.dataclass(frozen=True, slots=True)
class PassTime:
    """One way to run a pass."""

    way: str
    n_edits: int
    n_tokens: int
    """Live ones."""
    first_s: float | None
    """Of the preparation and the first run: warm-up and capture, or compilation."""
    cost: Cost | None
    """Of later passes; None where it failed or is wrong."""
    held_mib: float | None
    """Memory that the preparation and the first run leave behind; None on a CPU."""
    difference: float | None
    """Largest relative difference of terms and gradient from ``eager``'s."""
    note: str
    """Why there is no cost."""


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
    yield lambda: _queued(loop, delta)


@contextmanager
def compiled(loop: Loop, delta: Tensor) -> Iterator[Callable[[], Found]]:
    """Give the pass with compiled blocks; the model's blocks are as before afterwards."""
    blocks = list(loop.loaded.blocks)[loop.layer + 2 : -1]
    if not blocks:
        raise NotHereError("no block between the entry block and the last one")
    backend = "inductor" if loop.device.type == "cuda" else "aot_eager"
    # Attention writes into buffers and knows of segments: torch.compile goes around it.
    aside: Any = torch.compiler.disable
    whole = mock.patch.object(attention, "_attend", aside(attention._attend))  # noqa: SLF001
    with whole, warnings.catch_warnings(action="ignore"):  # torch.compile reads .grad of anything
        try:
            for block in blocks:
                block.compile(backend=backend, dynamic=False)
            yield lambda: _queued(loop, delta)
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
            _queued(loop, delta)
        # A pass that waits cannot be captured, and a failed capture leaves traces: ask first.
        with _no_waiting():
            _queued(loop, delta)
        with torch.cuda.graph(graph, stream=stream):
            found = _queued(loop, delta)
    settle(loop.device)

    def run() -> Found:
        graph.replay()
        return found

    try:
        yield run
    finally:
        settle(loop.device)
        graph.reset()


WAYS: dict[str, Way] = {
    "eager": eager,
    "read late": read_late,
    "compile": compiled,
    "cuda graph": graphed,
}
"""A graph comes last: should its capture fail nevertheless, nothing comes after it."""


def measure(case: GpuCase, ways: Mapping[str, Way] = WAYS) -> tuple[PassTime, ...]:
    """Return the time of a pass in every way; one that fails or is wrong says so.

    Args:
        case: its edits are the batch, and its settings those of v*.
        ways: by name.
    """
    loop = Loop.of(case)
    delta = loop.start.clone().requires_grad_()
    with eager(loop, delta) as run:
        expected = _kept(run())
    found = []
    for name, way in ways.items():
        found.append(_measured(case, loop, expected, name, way))
        print(f"pass of v*, {name}: {_row(found[-1])[3]} {found[-1].note}", file=sys.stderr)
    return tuple(found)


def _measured(case: GpuCase, loop: Loop, expected: Found, name: str, way: Way) -> PassTime:
    """Return what one way takes."""
    first = cost = held = difference = None
    note = ""
    delta = loop.start.clone().requires_grad_()
    adam = torch.optim.Adam([delta], lr=loop.problem.settings.learning_rate)
    before = reserved_mib(loop.device)
    start = time.perf_counter()
    try:
        with way(loop, delta) as run:
            mine = _kept(run())
            settle(loop.device)
            first = time.perf_counter() - start
            difference = _difference(mine, expected)
            now = reserved_mib(loop.device)
            held = None if now is None or before is None else now - before
            allowed = _ALLOWED.get(loop.loaded.dtype, _ALLOWED_HALF)

            def step() -> None:
                terms, delta.grad = run()
                terms.cpu()
                adam.step()

            if difference <= allowed:
                step()
                cost = cost_of(step, loop.device, case.order.repeats)
            else:
                note = f"wrong: differs by {difference:.1e}, {allowed:.0e} is allowed"
    except Exception as error:  # noqa: BLE001  whatever a capture or a compiler dies of is the finding
        note = told(error)
    return PassTime(name, len(delta), loop.n_tokens, first, cost, held, difference, note)


def table(found: tuple[PassTime, ...]) -> list[tuple[str, ...]]:
    """Return what was found as rows of a table, the headings first."""
    headings = (
        "pass of v*",
        "edits",
        "tokens",
        "ms a pass",
        "device busy",
        "kernels",
        "first, s",
        "MiB a pass",
        "MiB held",
        "difference",
        "note",
    )
    return [headings, *(_row(each) for each in found)]


def _row(each: PassTime) -> tuple[str, ...]:
    cost = each.cost
    busy = None if cost is None else cost.busy
    return (
        each.way,
        str(each.n_edits),
        str(each.n_tokens),
        "" if cost is None else cell(cost.seconds.median, 1e-3),
        "" if busy is None else f"{busy:.0%}",
        "" if cost is None or cost.n_kernels is None else str(cost.n_kernels),
        cell(each.first_s),
        "" if cost is None else cell(cost.more_mib),
        cell(each.held_mib),
        "" if each.difference is None else f"{each.difference:.0e}",
        each.note,
    )


def _queued(loop: Loop, delta: Tensor) -> Found:
    """Return the terms, still on the device, and the gradient; an accelerator is not waited for."""
    terms, total = loop.problem.terms(delta)
    return terms, _gradient(total, delta)


def _gradient(total: Tensor, delta: Tensor) -> Tensor:
    return torch.autograd.grad(total.sum(), delta)[0]


def _kept(found: Found) -> Found:
    """Return the loss (B,) and the gradient as they are now, float64 on the CPU."""
    terms, gradient = found
    return terms[:3].sum(dim=0).cpu().double(), gradient.detach().cpu().double()


def _difference(found: Found, expected: Found) -> float:
    """Return the largest difference over the largest number, the worse of the two."""
    far = [(a - b).abs().max() / b.abs().max() for a, b in zip(found, expected, strict=True)]
    return float(torch.stack(far).max())


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
