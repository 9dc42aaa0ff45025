"""One number for each text, block and position: residual norm, key, and who looks there.

Two passes: the first finds the mean key that each position is compared with, the second reads the
rest. Nothing of a text is kept but one number for each block and position.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from editcollapse.key_kinds import Numbers
from editcollapse.position_states import Stack, watch_stack

N_POSITIONS = 32
"""Positions that are profiled, from 0."""
_TEXTS_AT_ONCE = 8


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PositionNumbers:
    """One number for each of N texts, L blocks and P positions; float64 (N, L, P).

    nan where a text does not reach the position.
    """

    residual_norm: Numbers
    key_norm: Numbers
    key_cosine: Numbers
    attention: Numbers
    """nan too where no later token looks, or where the family gives no weights."""
    uniform_attention: Numbers
    """What attention were if every token looked at all tokens alike, (N, P)."""


def read_positions(stack: Stack, rows: Sequence[Sequence[int]]) -> PositionNumbers:
    """Return the numbers of some texts.

    Args:
        stack: decoder or encoder.
        rows: ids of N texts, each of at least two tokens.
    """
    others = _mean_keys_elsewhere(stack, rows)
    parts = [
        _read_some(stack, rows[first : first + _TEXTS_AT_ONCE], others)
        for first in range(0, len(rows), _TEXTS_AT_ONCE)
    ]

    def joined(name: str) -> Numbers:
        found: Numbers = np.concatenate([getattr(part, name) for part in parts])
        return found

    return PositionNumbers(
        residual_norm=joined("residual_norm"),
        key_norm=joined("key_norm"),
        key_cosine=joined("key_cosine"),
        attention=joined("attention"),
        uniform_attention=joined("uniform_attention"),
    )


def _read_some(
    stack: Stack, rows: Sequence[Sequence[int]], others: Sequence[Tensor]
) -> PositionNumbers:
    """Return the numbers of some texts, of ``N_POSITIONS`` whatever their lengths.

    Args:
        stack: decoder or encoder.
        rows: ids of the texts.
        others: of each block the mean key (T, K) that each position is compared with.
    """
    lengths = [len(row) for row in rows]

    def empty(*shape: int) -> Numbers:
        return np.full((len(rows), *shape, N_POSITIONS), np.nan)

    n_layers = len(stack.blocks)
    residual_norm, key_norm, key_cosine, attention = (empty(n_layers) for _ in range(4))
    uniform_attention = empty()

    def keep(into: Numbers, layer: int, found: Tensor) -> None:
        numbers = found[:, :N_POSITIONS].double().cpu().numpy()
        for n, length in enumerate(lengths):
            reached = min(length, N_POSITIONS)
            into[n, layer, :reached] = numbers[n, :reached]

    def on_key(layer: int, key: Tensor) -> None:
        keep(key_norm, layer, key.norm(dim=2))
        mean = others[layer][: key.shape[1]].to(key.device, key.dtype)
        keep(key_cosine, layer, torch.cosine_similarity(key, mean[None], dim=2))

    def on_residual(layer: int, residual: Tensor) -> None:
        keep(residual_norm, layer, residual.norm(dim=2))

    def on_attention(layer: int, weights: Tensor) -> None:
        keep(attention, layer, _looked_at(weights.mean(dim=1), lengths))

    watch_stack(stack, rows, on_key, on_residual, on_attention)
    for n, length in enumerate(lengths):
        uniform = _uniform(length, is_causal=stack.is_causal)[:N_POSITIONS]
        uniform_attention[n, : len(uniform)] = uniform
    return PositionNumbers(residual_norm, key_norm, key_cosine, attention, uniform_attention)


def _mean_keys_elsewhere(stack: Stack, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return of each block (T, K): for each position the mean key of all other positions."""
    width = max(map(len, rows))
    sums: list[Tensor] = []
    for first in range(0, len(rows), _TEXTS_AT_ONCE):
        _add_keys(stack, rows[first : first + _TEXTS_AT_ONCE], sums, width)
    counts = torch.tensor([sum(len(row) > t for row in rows) for t in range(width)])
    elsewhere = (int(counts.sum()) - counts)[:, None]
    return [(total.sum(dim=0) - total) / elsewhere for total in sums]


def _add_keys(stack: Stack, rows: Sequence[Sequence[int]], sums: list[Tensor], width: int) -> None:
    """Add the keys of some texts to the sums (T, K) of each block; the first call makes these."""
    lengths = torch.tensor([len(row) for row in rows])

    def add(layer: int, key: Tensor) -> None:
        if layer == len(sums):
            sums.append(torch.zeros(width, key.shape[2], dtype=torch.float64))
        there = torch.arange(key.shape[1]) < lengths[:, None]
        wide = key.double().cpu()
        sums[layer][: key.shape[1]] += wide.where(there[:, :, None], 0.0).sum(dim=0)

    watch_stack(stack, rows, add)


def _looked_at(weights: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the mean weight that a text's later tokens give to each position, (N, T).

    Args:
        weights: (N, T, T), by query and key.
        lengths: of the N texts; what is behind them is padding.
    """
    width = weights.shape[1]
    place = torch.arange(width, device=weights.device)
    sizes = torch.tensor(lengths, device=weights.device)
    later = (place[:, None] > place[None]) & (place[None, :, None] < sizes[:, None, None])
    return (weights * later).sum(dim=1) / later.sum(dim=1)  # nan where there is no later token


def _uniform(length: int, *, is_causal: bool) -> list[float]:
    """Return what ``_looked_at`` were if every token looked at all tokens alike; ends before nan.

    Args:
        length: of the text.
        is_causal: a token sees itself and those to its left alone.
    """
    if not is_causal:
        return [1 / length] * (length - 1)
    shares = [1 / (query + 1) for query in range(length)]
    return [sum(shares[place + 1 :]) / (length - place - 1) for place in range(length - 1)]
