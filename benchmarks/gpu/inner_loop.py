"""One pass of v* in several ways: do CUDA graphs or torch.compile pay?

A pass is the loss of a batch of edits with its gradient, the loss's terms on the CPU, and a step of
Adam (``editcollapse.rome.values``), while all edits are active.

- ``eager`` is what ``optimise_values`` does: it reads the terms before it asks for the gradient;
- ``read late`` asks for the gradient first, so that an accelerator waits once and not twice;
- ``compile`` has torch.compile run the blocks between the entry block and the last one, which run
  as copies; their attention stays as it is;
- ``cuda graph`` replays the kernels of a loss and its gradient that were recorded once.
"""

import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.inner_loop_ways import WAYS, Found, Loop, eager
from benchmarks.gpu.measuring import REPEATS, check_close, repeated
from benchmarks.gpu.reporting import Reporter
from benchmarks.machine import settle

_ALLOWED_HALF = 0.1
"""Of gradients through all blocks: fused kernels round elsewhere."""


def figures_of(way: str) -> tuple[tuple[str, str], ...]:
    """Return what and unit of one way's figures."""
    return ((f"a pass of v*, {way}", "ms"), (f"a pass of v*, {way}: device busy", "share"))


def measure(case: GpuCase, ways: Iterable[str], report: Reporter, n_repeats: int = REPEATS) -> None:
    """Write the time of a pass in some ways.

    Args:
        case: its edits are the batch, and its settings those of v*.
        ways: names in ``WAYS``.
        report: of the case.
        n_repeats: of each.
    """
    loop = Loop.of(case)
    with eager(loop, delta := loop.start.clone().requires_grad_()) as run:
        expected = _at_points(loop, delta, run)
    for name in ways:
        report.attempt(
            figures_of(name),
            lambda: _measure(loop, expected, name, report, n_repeats),  # noqa: B023  called at once
            case.device,
        )


def _measure(
    loop: Loop, expected: list[Tensor], name: str, report: Reporter, n_repeats: int
) -> None:
    """Write what one way takes.

    Raises:
        WrongError: its loss or gradient is another.
    """
    delta = loop.start.clone().requires_grad_()
    adam = torch.optim.Adam([delta], lr=loop.problem.settings.learning_rate)
    start = time.perf_counter()
    with WAYS[name](loop, delta) as run:
        run()
        settle(loop.device)
        first_s = time.perf_counter() - start
        difference = _difference(_at_points(loop, delta, run), expected)
        check_close(difference, loop.loaded.dtype, _ALLOWED_HALF)

        def step() -> None:
            terms, delta.grad = run()
            terms.cpu()
            adam.step()

        step()
        cost = repeated(step, loop.device, n_repeats)
    note = cost.note(len(delta), loop.n_tokens, first_s, difference)
    (time_, ms), (busy, share) = figures_of(name)
    report.say(time_, ms, 1e3 * cost.seconds.median, note)
    if cost.busy is not None:
        report.say(busy, share, cost.busy, note)


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
