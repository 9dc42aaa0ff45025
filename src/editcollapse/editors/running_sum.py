"""The sum of all updates of a sequence, layer by layer, and the weights that it is written into.

The sum is float64 and the edited matrix is always ``W + sum``, rounded once: what a resumed
sequence writes is what an uninterrupted one wrote. Norms and the change of text are kept up as
updates come in: ``tr((D + d) C (D + d)ᵀ) = tr(D C Dᵀ) + 2 tr(d C Dᵀ) + tr(d C dᵀ)`` for an update d
of rank n costs K² n + D K n, whatever the sum D is.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor

from editcollapse.catalog.editors import Restraint
from editcollapse.editors.restraints import restrained


@dataclasses.dataclass(frozen=True, eq=False)
class LayerScale:
    """What one layer's sum of updates is compared with, made of the unedited matrix once."""

    weight: Tensor
    """W, (D, K) float64 on the CPU."""
    moment: Tensor
    """C without damping, (K, K) float64; the identity where there is none."""
    norm: float
    """‖W‖."""
    spread: float
    """sqrt(tr(W C Wᵀ))."""

    @cached_property
    def spectral_norm(self) -> float:
        """W's largest singular value; worked out when it is first needed, and kept."""
        return float(torch.linalg.matrix_norm(self.weight, ord=2))

    @classmethod
    def of(cls, weight: Tensor, moment: Tensor) -> "LayerScale":
        """Return the scales of a layer."""
        wide = weight.detach().to("cpu", torch.float64, copy=True).contiguous()
        spread = float(((wide @ moment) * wide).sum().clamp(min=0.0).sqrt())
        return cls(wide, moment, float(wide.norm()), spread)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """An update dW = left right."""

    left: Tensor
    """(D, n) float64."""
    right: Tensor
    """(n, K) float64."""


class LayerSum:
    """The sum of one layer's updates.

    Args:
        scale: of the layer.
        total: sum so far, (D, K) float64; None for zero.
    """

    def __init__(self, scale: LayerScale, total: Tensor | None = None) -> None:
        self.scale = scale
        self.total = torch.zeros_like(scale.weight) if total is None else total.clone()
        nothing = torch.zeros((), dtype=torch.float64)
        self._squared = nothing if total is None else self._whole_spread()

    def add(self, update: "Factors | Tensor") -> float:
        """Add an update, as factors or whole; return its Frobenius norm."""
        if isinstance(update, Tensor):
            self.total += update
            self._squared = self._whole_spread()
            return float(update.norm())
        seen = self.scale.moment @ update.right.T  # (K, n)
        cross = (update.left * (self.total @ seen)).sum()
        own = ((update.left @ (update.right @ seen)) * update.left).sum()
        self._squared = self._squared + 2 * cross + own
        self.total.addmm_(update.left, update.right)
        inner = (update.left.T @ update.left) * (update.right @ update.right.T)
        return float(inner.sum().clamp(min=0.0).sqrt())

    @property
    def norm(self) -> float:
        """‖W_t - W‖, Frobenius."""
        return float(self.total.norm())

    @property
    def text_change(self) -> float:
        """sqrt(tr(D C Dᵀ) / tr(W C Wᵀ)), D the sum: how much the layer's output changes on text."""
        return float(self._squared.clamp(min=0.0).sqrt()) / self.scale.spread

    @property
    def spectral_norm(self) -> float:
        """The sum's largest singular value; nan where it is not finite."""
        if not bool(torch.isfinite(self.total).all()):
            return float("nan")
        return float(torch.linalg.matrix_norm(self.total, ord=2))

    def _whole_spread(self) -> Tensor:
        return ((self.total @ self.scale.moment) * self.total).sum()


@contextlib.contextmanager
def writing(weights: Mapping[int, Tensor]) -> Iterator["WrittenWeights"]:
    """Let some layers' weights be written; the unedited ones are put back at the end.

    The weights are put back bit by bit, whatever happens in the block.

    Args:
        weights: W by layer, (D, K): the model's own parameters, or views of them.
    """
    written = WrittenWeights(weights)
    try:
        yield written
    finally:
        written.put_back()


class WrittenWeights:
    """The weights of some layers while they are edited.

    Args:
        weights: as of ``writing``.
    """

    def __init__(self, weights: Mapping[int, Tensor]) -> None:
        self._weights = dict(weights)
        self._saved = {layer: each.detach().clone() for layer, each in self._weights.items()}

    @torch.no_grad()
    def write(self, layer: int, edited: Tensor) -> None:
        """Set a layer's W, (D, K), rounded to the type of the weights."""
        self._weights[layer].copy_(edited.to(self._weights[layer].dtype))

    @torch.no_grad()
    def put_back(self) -> None:
        """Put the unedited weights back."""
        for layer, weight in self._weights.items():
            weight.copy_(self._saved[layer])


def with_state(total: Tensor, layer: int, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return a layer's sum of updates after one more file of a sequence's states.

    Args:
        total: after the files before, (D, K) float64; may be changed.
        layer: zero-based block.
        tensors: of the file, by kind and layer: the whole sum (D, K), or factors of what is new, a
            left (D, n) and a right (n, K).
    """
    total = tensors.get(f"total.{layer}", total)
    if f"left.{layer}" in tensors:
        total.addmm_(tensors[f"left.{layer}"], tensors[f"right.{layer}"])
    return total


def edited_weight(total: LayerSum, restraint: Restraint = "none") -> Tensor:
    """Return W plus the sum of updates, restrained where an editor asks for it, (D, K) float64."""
    weight = total.scale.weight
    if restraint == "none":
        return weight + total.total
    return weight + restrained(total.total, total.scale.spectral_norm, restraint)


class SumsInWeights:
    """Sums of updates by layer, and the weights that hold them while steps are made.

    Args:
        sums: of each layer.
        written: the weights of these layers, which hold the sums already.
    """

    def __init__(self, sums: Mapping[int, LayerSum], written: WrittenWeights) -> None:
        self._sums, self._written = sums, written

    def edited(self, layer: int) -> Tensor:
        """Return W of a layer as edited so far, (D, K) float64."""
        return edited_weight(self._sums[layer])

    def add(self, layer: int, update: "Factors | Tensor") -> float:
        """Add an update to a layer's sum and write it; return its Frobenius norm."""
        norm = self._sums[layer].add(update)
        self._written.write(layer, self.edited(layer))
        return norm

    def show(self, layer: int, update: Tensor) -> None:
        """Write an update, (D, K) float64, that is no part of the sum."""
        self._written.write(layer, self.edited(layer) + update)


def write_all(
    written: WrittenWeights, sums: Mapping[int, LayerSum], restraint: Restraint = "none"
) -> None:
    """Write every layer's edited matrix."""
    for layer, total in sums.items():
        written.write(layer, edited_weight(total, restraint))
