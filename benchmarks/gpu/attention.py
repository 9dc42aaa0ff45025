"""Attention of one block in a pass of v*, in several ways: which is the fastest, and is it right?

``packed`` is ours (``editcollapse.segment_attention``). The others do the same by torch's kernels:

- ``sdpa``: one call for all rows, padded to the widest of their live tokens and the longest of
  their left contexts;
- ``sdpa by segment``: a call for each segment, whose left contexts are copied beside the live
  keys in each pass, as transformers' caches do;
- ``flex``: FlexAttention of the flat list of live queries over the flat list of keys.

Keys and values on the left and masks are prepared beforehand. Timed is what a pass does: live
queries, keys and values (T, heads, d) in, results out, and the gradients of all three.
"""

import dataclasses
import sys
from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.gpu.attention_block import Block, Expected, block_of, expected
from benchmarks.gpu.attention_ways import VARIANTS, Variant
from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.cost import Cost, cell, cost_of, reserved_mib, told
from benchmarks.machine import timed

_ALLOWED = {torch.float32: 1e-3}
_ALLOWED_HALF = 3e-2


@dataclasses.dataclass(frozen=True, slots=True)
class AttentionTime:
    """One way of attention: forward and backward of one block."""

    variant: str
    n_edits: int
    n_tokens: int
    """T."""
    first_s: float | None
    """Of the first run, compilation included; None where it failed."""
    cost: Cost | None
    """Of later runs; None where it failed or is wrong."""
    held_mib: float | None
    """Memory that the preparation and the first run leave behind; None on a CPU."""
    difference: float | None
    """Largest relative difference of result and gradients from plain attention in float64."""
    note: str
    """Why there is no cost."""


def measure(case: GpuCase, variants: Mapping[str, Variant] = VARIANTS) -> tuple[AttentionTime, ...]:
    """Return the time of every way of attention; one that fails or is wrong says so.

    Args:
        case: its edits are the batch.
        variants: by name.
    """
    block = block_of(case)
    truth = expected(block)
    found = []
    for name, variant in variants.items():
        found.append(_measured(case, block, truth, name, variant))
        print(f"attention, {name}: {_row(found[-1])[2]} {found[-1].note}", file=sys.stderr)
    return tuple(found)


def _measured(
    case: GpuCase, block: Block, truth: Expected, name: str, variant: Variant
) -> AttentionTime:
    """Return what one way takes."""
    device = case.loaded.device
    leaves = block.query, block.key, block.value
    results: list[Tensor] = []
    first = cost = held = difference = None
    note = ""
    before = reserved_mib(device)
    try:
        run = variant(block)

        def work() -> None:
            result = run(*leaves)
            results[:] = [result.detach(), *torch.autograd.grad(result, leaves, block.gradient)]

        first = timed(work, device)
        difference = truth.difference(results)
        results.clear()
        now = reserved_mib(device)
        held = None if now is None or before is None else now - before
        allowed = _ALLOWED.get(block.query.dtype, _ALLOWED_HALF)
        if difference <= allowed:
            cost = cost_of(work, device, case.order.repeats)
            results.clear()
        else:
            note = f"wrong: differs by {difference:.1e}, {allowed:.0e} is allowed"
    except Exception as error:  # noqa: BLE001  whatever a kernel dies of is the finding
        note = told(error)
    size = len(block.left[-1].segment.edits), len(block.query)
    return AttentionTime(name, *size, first, cost, held, difference, note)


def table(found: tuple[AttentionTime, ...]) -> list[tuple[str, ...]]:
    """Return what was found as rows of a table, the headings first."""
    headings = (
        "attention of a block",
        "tokens",
        "ms a pass",
        "device, ms",
        "kernels",
        "first, s",
        "MiB a pass",
        "MiB held",
        "difference",
        "note",
    )
    return [headings, *(_row(each) for each in found)]


def _row(each: AttentionTime) -> tuple[str, ...]:
    cost = each.cost
    return (
        each.variant,
        str(each.n_tokens),
        "" if cost is None else cell(cost.seconds.median, 1e-3),
        "" if cost is None else cell(cost.busy_s, 1e-3),
        "" if cost is None or cost.n_kernels is None else str(cost.n_kernels),
        cell(each.first_s),
        "" if cost is None else cell(cost.more_mib),
        cell(each.held_mib),
        "" if each.difference is None else f"{each.difference:.0e}",
        each.note,
    )
