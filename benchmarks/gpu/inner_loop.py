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
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.cost import Cost, cell, cost_of, reserved_mib, told
from benchmarks.gpu.inner_loop_ways import WAYS, Found, Loop, Way, eager
from benchmarks.machine import settle

_ALLOWED = {torch.float32: 1e-3}
_ALLOWED_HALF = 0.1
"""Of gradients through all blocks: fused kernels round elsewhere."""


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


def measure(case: GpuCase, ways: Mapping[str, Way] = WAYS) -> tuple[PassTime, ...]:
    """Return the time of a pass in every way; one that fails or is wrong says so.

    Args:
        case: its edits are the batch, and its settings those of v*.
        ways: by name.
    """
    loop = Loop.of(case)
    with eager(loop, delta := loop.start.clone().requires_grad_()) as run:
        expected = _at_points(loop, delta, run)
    found = []
    for name, way in ways.items():
        found.append(_measured(case, loop, expected, name, way))
        print(f"pass of v*, {name}: {_row(found[-1])[3]} {found[-1].note}", file=sys.stderr)
    return tuple(found)


def _measured(case: GpuCase, loop: Loop, expected: list[Tensor], name: str, way: Way) -> PassTime:
    """Return what one way takes."""
    first = cost = held = difference = None
    note = ""
    delta = loop.start.clone().requires_grad_()
    adam = torch.optim.Adam([delta], lr=loop.problem.settings.learning_rate)
    before = reserved_mib(loop.device)
    start = time.perf_counter()
    try:
        with way(loop, delta) as run:
            run()
            settle(loop.device)
            first = time.perf_counter() - start
            difference = _difference(_at_points(loop, delta, run), expected)
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


def _at_points(loop: Loop, delta: Tensor, run: Callable[[], Found]) -> list[Tensor]:
    """Return the loss (B,) and the gradient (B, D) at two deltas, float64 on the CPU."""
    found = []
    for point in (-loop.start, loop.start):
        with torch.no_grad():
            delta.copy_(point)
        terms, gradient = run()
        found += [terms[:3].sum(dim=0).cpu().double(), gradient.detach().cpu().double()]
    return found


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference over the largest number, the worst of all."""
    far = [(a - b).abs().max() / b.abs().max() for a, b in zip(found, expected, strict=True)]
    return float(torch.stack(far).max())
