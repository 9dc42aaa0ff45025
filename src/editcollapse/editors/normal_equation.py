"""The normal equation of the joint editors at one layer: A X = B, all in float64 on the CPU.

Source: ``catalog.editors`` gives A and B; MEMIT (arXiv 2210.07229) eq. 14, EMMET (arXiv 2403.14236)
eq. 9, AlphaEdit (arXiv 2410.02355) eq. 14, ENCORE (arXiv 2502.01636).
"""

import torch
from torch import Tensor

from editcollapse.catalog.editor_presets import IDENTITY_SHARE, KEPT_SHARE, JointSettings
from editcollapse.catalog.editors import JointEditor
from editcollapse.errors import MomentError


class NormalEquation:
    """What one layer's updates of one editor are solved with, made from C once.

    Args:
        moment: C, (K, K) float64, damped as edits solve with it.
        editor: its row.
        settings: on this model; what they leave open is worked out from C.

    Raises:
        MomentError: A has no Cholesky factor, or P keeps no direction.
    """

    def __init__(self, moment: Tensor, editor: JointEditor, settings: JointSettings) -> None:
        self._editor = editor
        self._constraint_ridge = settings.constraint_ridge
        self._basis: Tensor | None = None
        weight = settings.second_moment_weight
        if editor.projected:
            self._basis = _kept_directions(moment, settings.nullspace_threshold)
            kept = float(((moment @ self._basis) * self._basis).sum())  # tr(P C)
            self.ridge = kept if settings.ridge is None else settings.ridge
            """L2."""
            self._base = self.ridge * torch.eye(self._basis.shape[1], dtype=torch.float64)
            self.factor = self._base.sqrt()
            """Of M, what is solved with where there is no past; lower, (M, M)."""
            return
        self.ridge = 0.0
        if editor.identity:
            mean = IDENTITY_SHARE * weight * float(moment.diagonal().mean())
            self.ridge = mean if settings.identity_weight is None else settings.identity_weight
        self._base = weight * moment
        self._base.diagonal().add_(self.ridge)
        self.factor = _cholesky(self._base, weight)

    @property
    def kept_dimensions(self) -> int | None:
        """Directions that P keeps; None without P."""
        return None if self._basis is None else self._basis.shape[1]

    @property
    def size(self) -> int:
        """Rows of M: directions that P keeps, K without P."""
        return len(self._base)

    def gram(self, keys: Tensor) -> Tensor:
        """Return S of some keys: K Kᵀ in the directions that P keeps, where there is P.

        Args:
            keys: (n, K) float64.
        """
        seen = self.seen(keys)
        gram: Tensor = seen.T @ seen
        return gram

    def factor_with(self, past: Tensor | None) -> Tensor | None:
        """Return the Cholesky factor of M + S; None where it has none: keys were no numbers.

        Args:
            past: S, as ``gram`` gives it.
        """
        if past is None:
            return self.factor
        factor: Tensor
        factor, info = torch.linalg.cholesky_ex(self._base + past)
        return factor if int(info) == 0 and bool(torch.isfinite(factor).all()) else None

    def solve(self, keys: Tensor) -> Tensor:
        """Return Xᵀ of one joint edit without a past, (n, K): dW = R Xᵀ.

        Args:
            keys: of its n facts, (n, K) float64.

        Returns:
            Of float64; nan where a key is no finite number.
        """
        seen = self.seen(keys)
        # (M + K Kᵀ)⁻¹ K = M⁻¹ K (I + Kᵀ M⁻¹ K)⁻¹, with M's factor at hand.
        solved = torch.cholesky_solve(seen.T, self.factor)
        inner = seen @ solved
        if not self._editor.equality:
            inner.diagonal().add_(1.0)
        elif len(keys) > 1:
            inner.diagonal().add_(self._constraint_ridge)
        return self.whole(torch.linalg.solve(inner, solved.T))

    def solve_each(self, keys: Tensor) -> Tensor:
        """Return Xᵀ of B edits of one fact each, without a past, (B, K); as ``solve`` of each.

        Args:
            keys: (B, K) float64.
        """
        seen = self.seen(keys)
        solved: Tensor = torch.cholesky_solve(seen.T, self.factor).T
        inner = (seen * solved).sum(dim=1, keepdim=True)
        return self.whole(solved / (inner if self._editor.equality else 1.0 + inner))

    def seen(self, keys: Tensor) -> Tensor:
        """Return keys, (n, K), in the directions that P keeps, (n, M); as they are without P."""
        return keys if self._basis is None else keys @ self._basis

    def whole(self, rows: Tensor) -> Tensor:
        """Return rows in the directions that P keeps, (n, M), as (n, K)."""
        return rows if self._basis is None else rows @ self._basis.T


def _cholesky(matrix: Tensor, weight: float) -> Tensor:
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info) != 0 or not bool(torch.isfinite(factor).all()):
        raise MomentError(
            f"lambda C with lambda = {weight:g} ({len(matrix)} x {len(matrix)}) is singular. Raise "
            "`covariance.n_tokens` (some keys never fired), set `covariance.damping`, for example "
            "0.001, or give the editor a `second_moment_weight` above 0."
        )
    return factor


def _kept_directions(moment: Tensor, threshold: float | None) -> Tensor:
    """Return the eigenvectors of C's smallest eigenvalues, (K, M): P = U Uᵀ."""
    values, vectors = torch.linalg.eigh(moment)
    if threshold is None:
        some: Tensor = vectors[:, : max(1, int(KEPT_SHARE * len(values)))].contiguous()
        return some
    kept = values.abs() < threshold
    if not bool(kept.any()):
        raise MomentError(
            f"no eigenvalue of C is below `nullspace_threshold` {threshold:g} (the smallest is "
            f"{float(values.min()):.3g}): nothing could be written. The threshold depends on the "
            "scale of the keys; raise it, or leave it out to keep "
            f"{KEPT_SHARE:.0%} of the directions."
        )
    chosen: Tensor = vectors[:, kept]
    return chosen
