"""Ways to attend in a block: ours, and the same by torch's kernels.

Each is prepared for a block and then takes suffix queries (T, H, d), keys and values (T, G, d).
Prefixes and masks are laid out beforehand.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, create_mask, flex_attention

from benchmarks.gpu.attention_block import Block
from editcollapse.forward.hooked_layer import overwrite
from editcollapse.forward.packed_attention import attend
from editcollapse.forward.suffix import PaddedPrefix

_ALIGNED = 8
"""torch's kernels copy masks whose rows are no multiple of this."""

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of queries (T, H, d), keys and values (T, G, d): (T, H, d)."""
Variant = Callable[[Block], Attention]
"""Prepares a way of attention for a block."""


def packed(block: Block) -> Attention:
    """Return ours."""
    keys = [prefix.keys(0) for prefix in block.prefixes]
    masks = [
        prefix.mask(None, prefix.segment.width, block.query.dtype) for prefix in block.prefixes
    ]

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        suffix = key.transpose(0, 1), value.transpose(0, 1)
        return attend(query.transpose(0, 1), suffix, keys, masks, block.rule)

    return run


def by_segment(block: Block) -> Attention:
    """Return torch's SDPA of each segment, N rows of W tokens."""
    parts = []
    start = 0
    for prefix in block.prefixes:
        padded, (_, _, width) = PaddedPrefix.of(prefix), prefix.segment.shape
        is_real = torch.ones_like(padded.positions) if padded.mask is None else padded.mask
        mask = _added(is_real[:, :-width] == 1, width, block.query.dtype)
        parts.append((slice(start, start + prefix.segment.n_tokens), padded, mask, width))
        start += prefix.segment.n_tokens

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found = []
        for tokens, padded, mask, width in parts:
            q, k, v = (
                each[tokens].view(-1, width, *each.shape[1:]).transpose(1, 2)
                for each in (query, key, value)
            )
            if padded.pairs:
                k, v = (torch.cat(each, 2) for each in zip(padded.pairs[0], (k, v), strict=True))
            found.append(_sdpa(block, q, k, v, mask).transpose(1, 2).flatten(0, 1))
        return torch.cat(found)

    return run


def in_one_call(block: Block) -> Attention:
    """Return torch's SDPA of all R rows at once, padded."""
    padded_rows = [PaddedPrefix.of(prefix) for prefix in block.prefixes]
    widths = [prefix.segment.width for prefix in block.prefixes]
    n_rows, widest = sum(prefix.segment.n_rows for prefix in block.prefixes), max(widths)
    n_prefix = max(
        0 if padded.mask is None else int(padded.mask[:, :-width].sum(dim=1).max())
        for padded, width in zip(padded_rows, widths, strict=True)
    )
    total = -(-(n_prefix + widest) // _ALIGNED) * _ALIGNED
    n_prefix = total - widest
    keys, values = (each.new_zeros((n_rows, total, *each.shape[1:])) for each in _known(block))
    is_real = torch.zeros((n_rows, n_prefix), dtype=torch.bool, device=keys.device)
    asked, known = [], []
    row = 0
    for padded, width in zip(padded_rows, widths, strict=True):
        rows = slice(row, row + len(padded.positions))
        if padded.mask is not None:
            end = padded.mask.shape[1] - width
            size = min(n_prefix, end)
            is_real[rows, n_prefix - size :] = padded.mask[:, end - size : end] == 1
            for whole, states in zip((keys, values), padded.pairs[0], strict=True):
                whole[rows, n_prefix - size : n_prefix] = states[:, :, end - size :].transpose(1, 2)
        row = rows.stop
        numbers = torch.arange(rows.start, rows.stop, device=keys.device)[:, None]
        indices = torch.arange(width, device=keys.device)
        asked.append((numbers * widest + indices).flatten())
        known.append((numbers * total + n_prefix + indices).flatten())
    at, beside = torch.cat(asked), torch.cat(known)
    mask = _added(is_real, widest, block.query.dtype)
    queries = block.query.new_zeros((n_rows, widest, *block.query.shape[1:]))

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (
            overwrite(whole.flatten(0, 1), new, indices).view_as(whole).transpose(1, 2)
            for whole, new, indices in (
                (queries, query, at),
                (keys, key, beside),
                (values, value, beside),
            )
        )
        return _sdpa(block, q, k, v, mask).transpose(1, 2).flatten(0, 1).index_select(0, at)

    return run


def flex(block: Block) -> Attention:
    """Return FlexAttention over the flat list of all keys: shared, own, suffix.

    Compiled on an accelerator. On a CPU it knows no gradient: there torch's SDPA of the same mask
    stands in for that.
    """
    flat = _Flat.of(block)
    owner, position, row, slot = flat.owner, flat.position, flat.row, flat.slot
    asked_from = position[flat.suffix]

    def is_seen(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        is_own = (owner[key] == row[query]) | (owner[key] == slot[query])
        return is_own & (position[key] <= asked_from[query])

    sizes = len(block.query), len(flat.key)
    device = block.query.device
    tiles = create_block_mask(is_seen, None, None, *sizes, device=str(device))
    seen = create_mask(is_seen, 1, 1, *sizes, device=str(device)) if device.type == "cpu" else None
    attention: Any = flex_attention
    if seen is None:
        attention = torch.compile(flex_attention, dynamic=False)
    settings: Any = {"scale": block.rule.scaling, "enable_gqa": block.shares_keys}

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q = query.transpose(0, 1)[None]
        k, v = (
            overwrite(whole, new, flat.suffix).transpose(0, 1)[None]
            for whole, new in ((flat.key, key), (flat.value, value))
        )
        if seen is None:
            found: Tensor = attention(q, k, v, block_mask=tiles, **settings)
            return found[0].transpose(0, 1)
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            plain = attention(q.detach(), k.detach(), v.detach(), block_mask=tiles, **settings)
        other = _sdpa(block, q, k, v, seen)
        mixed: Tensor = other + (plain - other).detach()
        return mixed[0].transpose(0, 1)

    return run


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Flat:
    """All keys side by side, real ones only; each belongs to a row or to a slot of a segment."""

    key: Tensor
    """(N, G, d)."""
    value: Tensor
    """Likewise."""
    suffix: Tensor
    """int64 (T,): indices of the suffix ones."""
    owner: Tensor
    """int32 (N,): number of the key's row; of its slot, where all rows of that share it."""
    position: Tensor
    """int32 (N,)."""
    row: Tensor
    """int32 (T,): number of each query's row."""
    slot: Tensor
    """int32 (T,): of its slot."""

    @classmethod
    def of(cls, block: Block) -> "_Flat":
        """Return the keys of all segments: shared ones, rows' own, the suffix's."""
        key, value = _known(block)
        states: list[list[Tensor]] = [[key[:0]], [value[:0]], [key[:0]], [value[:0]]]
        owners: list[list[Tensor]] = [[], [], []]
        positions: list[list[Tensor]] = [[], [], []]
        slots = []
        n_rows, n_slots = 0, sum(prefix.segment.n_rows for prefix in block.prefixes)
        for prefix in block.prefixes:
            s, e, w = prefix.segment.shape
            row = torch.arange(n_rows, n_rows + s * e, device=key.device).view(s, e, 1)
            slot = torch.arange(n_slots, n_slots + s, device=key.device)[:, None]
            n_rows, n_slots = n_rows + s * e, n_slots + s
            far, own = prefix.shared_positions >= 0, prefix.own_positions >= 0
            for which in (0, 1):
                states[which].append(prefix.shared[0][which].transpose(1, 2)[far])
                beside = prefix.near[0][which][:, :, :, : own.shape[2]]
                states[which + 2].append(beside.permute(0, 2, 3, 1, 4)[own])
            owners[0].append(slot.expand(far.shape)[far])
            owners[1].append(row.expand(own.shape)[own])
            owners[2].append(row.expand(s, e, w).flatten())
            positions[0].append(prefix.shared_positions[far])
            positions[1].append(prefix.own_positions[own])
            positions[2].append(prefix.positions.flatten())
            slots.append(slot[:, None].expand(s, e, w).flatten())
        n_prefix = sum(len(each) for each in (*states[0], *states[2]))
        return cls(
            key=torch.cat([*states[0], *states[2], key]),
            value=torch.cat([*states[1], *states[3], value]),
            suffix=torch.arange(n_prefix, n_prefix + len(key), device=key.device),
            owner=torch.cat([each for kind in owners for each in kind]).int(),
            position=torch.cat([each for kind in positions for each in kind]).int(),
            row=torch.cat(owners[2]).int(),
            slot=torch.cat(slots).int(),
        )


def _sdpa(block: Block, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Return torch's attention of (N, H, W, d) and (N, G, ..., d)."""
    found: Tensor = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        scale=block.rule.scaling,
        enable_gqa=block.shares_keys,
    )
    return found


def _known(block: Block) -> tuple[Tensor, Tensor]:
    return block.key.detach(), block.value.detach()


def _added(is_real: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Return what is added to the scores of rows, (N, 1, W, left + W).

    Args:
        is_real: of what stands left, bool (N, left).
        width: W; each query sees what is left of it, and itself.
        dtype: of the scores.
    """
    causal = torch.ones((width, width), dtype=torch.bool, device=is_real.device).tril()
    far = is_real[:, None].expand(-1, width, -1)
    seen = torch.cat([far, causal.expand(len(is_real), -1, -1)], dim=2)
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, -torch.inf)[:, None]


VARIANTS: dict[str, Variant] = {
    "packed": packed,
    "sdpa": in_one_call,
    "sdpa by segment": by_segment,
    "flex": flex,
}
