"""The entry of the block above an edit, of edited models: known products and one direction."""

from typing import Any

import torch
from torch import Tensor, nn

from editcollapse.entry import BlockEntry


class RankOneEntry:
    """A block's entry under inputs that are moved along one direction each.

    For LayerNorm, with the mean taken out of the input h and of the direction r,
    ``W LN(h + c r) + a = s (W g h + c W g r) + (W b + a)`` with g, b the norm's weight and bias,
    a the map's bias, and 1/s the root of the mean square of h + c r (and eps). RMS norms are the
    same without mean and b. W g h is computed once for all c and r.

    Args:
        entry: of the block.
        residual: unmoved inputs of N rows, (N, T, D), float32 or float64.
    """

    def __init__(self, entry: BlockEntry, residual: Tensor) -> None:
        self._entry = entry
        self._centred = _centred(residual) if entry.centred else residual
        self._exact = torch.float32 if residual.device.type == "mps" else torch.float64
        self._square = self._centred.to(self._exact).square().sum(dim=-1)  # (N, T)
        self._bases = self._products(self._centred)
        self._constants = [
            _constant(norm, projection)
            for norm, projections in entry.parts
            for projection in projections
        ]

    def outputs(self, dots: Tensor, direction: Tensor, owner: Tensor | None = None) -> list[Tensor]:
        """Return what every linear map gives, (E, N, T, out) each; (N, T, out) with owners.

        Args:
            dots: how far each token moves, (E, N, T); (N, T) where rows have owners.
            direction: (E, D).
            owner: int64 (N,): each row's direction; None where every row is moved along each.
        """
        moved = _centred(direction) if self._entry.centred else direction
        along = self._products(moved)
        exact = moved.to(self._exact)
        size = exact.square().sum(dim=-1)  # (E,)
        if owner is None:
            cross = torch.einsum("ntd,ed->ent", self._centred.to(self._exact), exact)
            size = size[:, None, None]
            along = [each[:, None, None] for each in along]
        else:
            cross = torch.einsum("ntd,nd->nt", self._centred.to(self._exact), exact[owner])
            size = size[owner, None]
            along = [each[owner, None] for each in along]
        far = dots.to(self._exact)
        square = (self._square + 2 * far * cross + far.square() * size).clamp(min=0)
        scales = []
        for norm, projections in self._entry.parts:
            scale = (square / moved.shape[-1] + _eps(norm)).rsqrt()
            scales += [(scale, scale * far)] * len(projections)
        found = []
        for (scale, step), base, r, constant in zip(
            scales, self._bases, along, self._constants, strict=True
        ):
            here = scale.to(base)[..., None]
            output = here * base if constant is None else torch.addcmul(constant, here, base)
            found.append(output.addcmul_(step.to(base)[..., None], r))
        return found

    def _products(self, vectors: Tensor) -> list[Tensor]:
        """Return W g x for every linear map, (..., out) each."""
        found = []
        for norm, projections in self._entry.parts:
            weight: Any = norm.weight
            gained = vectors * (1 + weight if self._entry.from_one else weight)
            for projection in projections:
                bias: Any = projection.bias
                product = projection(gained)
                found.append(product if bias is None else product - bias)
        return found


def _centred(vectors: Tensor) -> Tensor:
    return vectors - vectors.mean(dim=-1, keepdim=True)


def _constant(norm: nn.Module, projection: nn.Module) -> Tensor | None:
    """Return W b + a, (out,): what a map gives where its norm's input has no spread."""
    shift, bias = getattr(norm, "bias", None), getattr(projection, "bias", None)
    constant: Tensor | None = bias if shift is None else projection(shift)
    return constant


def _eps(norm: nn.Module) -> float:
    """Return what a norm adds to the mean square."""
    family: Any = norm
    eps = getattr(norm, "eps", None)
    return float(family.variance_epsilon if eps is None else eps)
