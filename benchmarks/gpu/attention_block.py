"""One block's attention in a pass of v* at its real sizes, and what it has to give."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.measuring import one_group
from editcollapse.forward.packed_attention import AttentionRule, SegmentPrefix
from editcollapse.forward.suffix import split_rewrites

_ROWS = 200
"""Rows that are compared at most, spread over all."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One block's attention: its suffix tokens, T in all, and what stands left of them."""

    prefixes: tuple[SegmentPrefix, ...]
    """Of every segment, for this block alone."""
    query: Tensor
    """(T, H, d)."""
    key: Tensor
    """(T, G, d): H / G heads share one."""
    value: Tensor
    """Likewise."""
    gradient: Tensor
    """Of the result, (T, H, d)."""
    rule: AttentionRule
    """Without a soft cap."""

    @property
    def shares_keys(self) -> bool:
        """Whether G < H."""
        return self.key.shape[1] < self.query.shape[1]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """Results and gradients of some rows' suffix tokens, N in all."""

    tokens: Tensor
    """int64 (N,): places in the flat list."""
    states: tuple[Tensor, ...]
    """The result, then the gradients of query, key and value: (N, heads, d) float64."""

    def difference(self, found: Sequence[Tensor]) -> float:
        """Return the largest difference over the largest number, the worst of the four.

        Args:
            found: the four, for all suffix tokens.
        """
        far = [
            (each[self.tokens].double() - mine).abs().max() / mine.abs().max()
            for each, mine in zip(found, self.states, strict=True)
        ]
        return float(torch.stack(far).max())


def block_of(case: GpuCase) -> Block:
    """Return the middle block above the edited one, with random normal queries, keys and values."""
    suffix, _ = split_rewrites(case.hooked, one_group(case))
    middle = case.hooked.n_above // 2
    prefixes = tuple(
        dataclasses.replace(each, shared=[each.shared[middle]], near=[each.near[middle]])
        for each in suffix.prefixes
    )
    n_groups, width = prefixes[0].near[0][0].shape[1], prefixes[0].near[0][0].shape[4]
    config: Any = case.loaded.model.config
    n_heads = config.num_attention_heads
    generator = torch.Generator(device=case.loaded.device).manual_seed(0)

    def draw(heads: int) -> Tensor:
        shape = (len(suffix.positions), heads, width)
        drawn = torch.randn(shape, generator=generator, device=case.loaded.device)
        return drawn.to(case.loaded.dtype)

    return Block(
        prefixes=prefixes,
        query=draw(n_heads).requires_grad_(),
        key=draw(n_groups).requires_grad_(),
        value=draw(n_groups).requires_grad_(),
        gradient=draw(n_heads),
        rule=AttentionRule(width**-0.5, None),
    )


def expected(block: Block) -> Expected:
    """Return what some rows of a block give by plain attention in float64, a row at a time."""
    step = -(-sum(each.segment.n_rows for each in block.prefixes) // _ROWS)
    tokens: list[int] = []
    parts: list[tuple[Tensor, ...]] = []
    row = start = 0
    inputs = block.query, block.key, block.value, block.gradient
    for each in block.prefixes:
        n_slots, n_edits, width = each.segment.shape
        for slot in range(n_slots):
            for edit in range(n_edits):
                if row % step == 0:
                    some = slice(start, start + width)
                    states = [whole[some] for whole in inputs]
                    parts.append(_row(_before(each, slot, edit), states, block.rule.scaling))
                    tokens += range(some.start, some.stop)
                row, start = row + 1, start + width
    found = tuple(torch.cat(each) for each in zip(*parts, strict=True))
    return Expected(torch.tensor(tokens, device=block.query.device), found)


def _before(prefix: SegmentPrefix, slot: int, edit: int) -> list[Tensor]:
    """Return keys and values left of one row's suffix tokens, (G, n, d) float64 each."""
    is_shared = prefix.shared_positions[slot] >= 0
    is_own = prefix.own_positions[slot, edit] >= 0
    return [
        torch.cat([far[slot][:, is_shared], near[slot, :, edit, : len(is_own)][:, is_own]], 1)
        .detach()
        .double()
        for far, near in zip(prefix.shared[0], prefix.near[0], strict=True)
    ]


def _row(before: list[Tensor], states: list[Tensor], scaling: float) -> tuple[Tensor, ...]:
    """Return result and gradients of one row's W tokens, (W, heads, d) each."""
    *leaves, gradient = (each.detach().double() for each in states)
    query, key, value = (each.requires_grad_() for each in leaves)
    keys, values = (
        torch.cat([far, suffix.transpose(0, 1)], 1).repeat_interleave(
            query.shape[1] // suffix.shape[1], dim=0
        )
        for far, suffix in zip(before, (key, value), strict=True)
    )
    scores = query.transpose(0, 1) @ keys.mT * scaling
    later = torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(later.triu(before[0].shape[1] + 1), -torch.inf)
    result = (torch.softmax(scores, dim=-1) @ values).transpose(0, 1)
    return result.detach(), *torch.autograd.grad(result, (query, key, value), gradient)
