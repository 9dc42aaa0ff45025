"""Attention of one block in a pass of v*, in several ways: which is the fastest, and is it right?

``packed`` is ours (``forward.packed_attention``). The others do the same by torch's kernels:

- ``sdpa``: one call for all rows, padded to the widest of their suffix tokens and the longest of
  their prefixes;
- ``sdpa by segment``: a call for each segment, whose prefixes are copied beside the suffix
  keys in each pass, as transformers' caches do;
- ``flex``: FlexAttention of the flat list of suffix queries over the flat list of keys.

Keys and values on the left and masks are prepared beforehand. Timed is what a pass does: live
queries, keys and values (T, heads, d) in, results out, and the gradients of all three. A way whose
result or gradients are not those of plain attention in float64 is reported as wrong, not as fast.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from benchmarks.gpu.attention_block import Block, Expected, block_of, expected
from benchmarks.gpu.attention_ways import VARIANTS
from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.measuring import REPEATS, check_close, repeated
from benchmarks.gpu.reporting import Reporter
from benchmarks.machine import timed

_ALLOWED_HALF = 3e-2


def figures_of(variant: str) -> tuple[tuple[str, str], ...]:
    """Return what and unit of one way's figures."""
    name = f"attention of a block, {variant}"
    return ((name, "ms"), (f"{name}: memory", "MiB"))


def measure(
    case: GpuCase, variants: Iterable[str], report: Reporter, n_repeats: int = REPEATS
) -> None:
    """Write the time of some ways of attention, forward and backward of one block.

    Args:
        case: its edits are the batch.
        variants: names in ``VARIANTS``.
        report: of the case.
        n_repeats: of each.
    """
    block = block_of(case)
    truth = expected(block)
    for name in variants:
        report.attempt(
            figures_of(name),
            lambda: _measure(block, truth, name, report, n_repeats),  # noqa: B023  called at once
            case.device,
        )


def _measure(block: Block, truth: Expected, name: str, report: Reporter, n_repeats: int) -> None:
    """Write what one way takes.

    Raises:
        WrongError: it computes something else.
    """
    device = block.query.device
    leaves = block.query, block.key, block.value
    results: list[Tensor] = []
    run = VARIANTS[name](block)

    def work() -> None:
        result = run(*leaves)
        results[:] = [result.detach(), *torch.autograd.grad(result, leaves, block.gradient)]

    first_s = timed(work, device)
    difference = truth.difference(results)
    check_close(difference, block.query.dtype, _ALLOWED_HALF)
    results.clear()
    cost = repeated(work, device, n_repeats)
    n_edits = len(block.prefixes[-1].segment.edits)
    note = cost.note(n_edits, len(block.query), first_s, difference)
    (time, ms), (memory, mib) = figures_of(name)
    report.say(time, ms, 1e3 * cost.seconds.median, note)
    if cost.more_mib is not None:
        report.say(memory, mib, cost.more_mib, note)
