"""How two models' weights differ, tensor by tensor; a block of rows is in memory at a time.

Of matrices that are small enough also the largest singular value of the difference, and how many
directions it has: the effective rank exp(H), H the entropy of the singular values as shares of
their sum (Roy & Vetterli 2007, *The effective rank*).
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from editcollapse.judging.changes import Change
from editcollapse.judging.weights import WeightPlace, Weights, row_blocks

_SPECTRUM = 1 << 12
"""Rows or columns, whichever are fewer, up to which singular values are found."""
_SPECTRUM_COST = 1 << 36
"""And products that they may take: rows times columns times the fewer."""


@dataclasses.dataclass(frozen=True, slots=True)
class TensorDifference:
    """What has become of one tensor. Norms are Frobenius norms."""

    place: WeightPlace
    n_changed: int
    """Entries that are not what they were."""
    n_not_finite: int
    """Entries that are NaN or infinite now."""
    max_abs: float
    """Largest absolute difference of an entry."""
    norm: float
    """Of the difference."""
    weight_norm: float
    """Of the tensor before."""
    spectral_norm: float | None = None
    """Largest singular value of the difference; None where it is no matrix or too large for that.
    """
    effective_rank: float | None = None
    """Of the difference; None likewise."""
    first_share: float | None = None
    """Share of the squared norm in the first direction; None likewise."""

    @property
    def is_changed(self) -> bool:
        """Whether any entry differs."""
        return self.n_changed > 0

    @property
    def relative_norm(self) -> float:
        """Norm of the difference over that of the tensor; inf where that is 0 and this is not."""
        return ratio(self.norm, self.weight_norm)


def ratio(norm: float, weight_norm: float) -> float:
    """Return a norm over another; inf where that is 0 and this is not, 0 where both are."""
    if weight_norm > 0:
        return norm / weight_norm
    return 0.0 if norm == 0 else math.inf


def differences(
    base: Weights, change: Change, on_tensor: Callable[[int, int], None] | None = None
) -> Iterator[TensorDifference]:
    """Yield what has become of each tensor that may differ, in the model's order.

    Args:
        base: the weights before.
        change: what has been done to them.
        on_tensor: called with tensors done and all.
    """
    names = list(change.names())
    for done, name in enumerate(names, start=1):
        yield _difference(base, change, base.places[name])
        if on_tensor is not None:
            on_tensor(done, len(names))


def whole_difference(base: Weights, change: Change, place: WeightPlace) -> Tensor:
    """Return D = W' - W of a linear weight as (out, in), float64 on the CPU."""
    blocks = [
        change.difference(place.name, base.rows(place.name, *rows), *rows)
        for rows in row_blocks(place)
    ]
    whole = torch.cat(blocks)
    return whole.T.contiguous() if place.is_transposed else whole


def whole_weight(base: Weights, place: WeightPlace) -> Tensor:
    """Return W of a linear weight as (out, in), float64 on the CPU."""
    whole = base.rows(place.name, 0, place.shape[0]).to("cpu", torch.float64)
    return whole.T.contiguous() if place.is_transposed else whole


def _difference(base: Weights, change: Change, place: WeightPlace) -> TensorDifference:
    n_changed = n_not_finite = 0
    largest = squared = weight_squared = 0.0
    has_spectrum = _has_spectrum(place)
    kept: list[Tensor] = []
    for first, last in row_blocks(place):
        before = base.rows(place.name, first, last)
        found = change.difference(place.name, before, first, last)
        before = before.to("cpu", torch.float64)
        weight_squared += float(before.square().sum())
        n_here = int(torch.count_nonzero(found))  # nan differs from 0
        if n_here:
            n_changed += n_here
            n_not_finite += int((~torch.isfinite(before + found)).sum())
            largest = max(largest, float(found.abs().max()))
            squared += float(found.square().sum())
        if has_spectrum:
            kept.append(found)
    plain = TensorDifference(
        place, n_changed, n_not_finite, largest, math.sqrt(squared), math.sqrt(weight_squared)
    )
    if not kept or n_not_finite or not 0 < squared < math.inf:
        return plain
    first_value, rank, share = _spectrum(torch.cat(kept))
    return dataclasses.replace(
        plain, spectral_norm=first_value, effective_rank=rank, first_share=share
    )


def _has_spectrum(place: WeightPlace) -> bool:
    """Return whether a tensor's difference is a matrix whose singular values are soon found."""
    if len(place.shape) != 2 or not (place.is_linear or place.part == "head"):  # noqa: PLR2004
        return False
    fewer = min(place.shape)
    return fewer <= _SPECTRUM and place.n_entries * fewer <= _SPECTRUM_COST


def _spectrum(difference: Tensor) -> tuple[float, float, float]:
    """Return the largest singular value, the effective rank, and the first direction's share."""
    scale = difference.abs().max()
    wide = difference / scale
    gram = wide @ wide.T if len(wide) <= wide.shape[1] else wide.T @ wide
    squares = torch.linalg.eigvalsh(gram).clamp(min=0.0)
    values = squares.sqrt()
    # Of the products' rounding: singular values below it are none.
    values = values[values > values.max() * len(values) * torch.finfo(torch.float64).eps ** 0.5]
    shares = values / values.sum()
    rank = math.exp(-float((shares * shares.log()).sum()))
    return float(values.max() * scale), rank, float(squares.max() / squares.sum())
