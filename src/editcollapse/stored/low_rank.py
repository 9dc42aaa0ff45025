"""Factors of an update, balanced: as few as it has directions, or as many as are asked for.

``dW = B A`` with ``B = U sqrt(S)`` and ``A = sqrt(S) Vᵀ`` of the singular value decomposition: both
factors are of one size, so that neither leaves the range in which a half type has its digits.
"""

import dataclasses

import torch
from torch import Tensor

from editcollapse.errors import ResultsError
from editcollapse.stored.updates import LayerUpdate


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class BalancedFactors:
    """One layer's update as ``up @ down``."""

    layer: int
    up: Tensor
    """B, (D, r) float64."""
    down: Tensor
    """A, (r, K) float64."""
    lost: float
    """Frobenius norm of what the factors leave out, over that of the update; 0 where they are all
    of it."""
    largest_lost: float
    """Largest singular value that is left out, over the update's largest."""

    @property
    def rank(self) -> int:
        """Number of directions."""
        return len(self.down)


def balanced_factors(change: LayerUpdate, rank: int | None = None) -> BalancedFactors:
    """Return a layer's update as balanced factors.

    Args:
        change: finite.
        rank: keep the largest so many singular values; None: all there are.

    Raises:
        ResultsError: no rank is given, and the update has so many directions that factors would be
            larger than the update itself.
    """
    if change.right is None:
        left, values, right = torch.linalg.svd(change.left, full_matrices=False)
    else:
        # Of factors the small matrix between their orthonormal bases is decomposed.
        out, inner = torch.linalg.qr(change.left)
        into, other = torch.linalg.qr(change.right.T)
        left, values, right = torch.linalg.svd(inner @ other.T, full_matrices=False)
        left, right = out @ left, right @ into.T
    n_out, n_in = len(left), right.shape[1]
    resolution = max(n_out, n_in) * torch.finfo(torch.float64).eps
    n_directions = max(1, int((values > values.max() * resolution).sum()))
    if rank is None and n_directions * (n_out + n_in) >= n_out * n_in:
        raise ResultsError(
            f"the update of layer {change.layer} is of full rank ({n_directions} directions in "
            f"{n_out} x {n_in}), as fine-tuning's and RECT's are: no adapter of its rank is "
            "smaller than the matrix. Export the weights instead, or keep its largest directions "
            "with `rank`; what is lost is said then."
        )
    kept = n_directions if rank is None else min(rank, n_directions)
    root = values[:kept].sqrt()
    gone = values[kept:n_directions]
    whole = float(values.norm())
    return BalancedFactors(
        layer=change.layer,
        up=left[:, :kept] * root,
        down=root[:, None] * right[:kept],
        lost=float(gone.norm()) / whole if whole else 0.0,
        largest_lost=float(gone.max()) / float(values.max()) if len(gone) else 0.0,
    )


def check_finite(change: LayerUpdate) -> None:
    """Check that an update holds numbers alone.

    Raises:
        ResultsError: it holds NaN or infinity.
    """
    parts = (change.left,) if change.right is None else (change.left, change.right)
    if not all(bool(torch.isfinite(each).all()) for each in parts):
        raise ResultsError(
            f"the update of layer {change.layer} holds NaN or infinite numbers: there is no model "
            "to take home. Of a sequence, export an earlier step."
        )
