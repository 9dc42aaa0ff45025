"""S of a sequence: the keys of earlier steps of one layer, as stored and as solved with.

With F = M + S of the keys that are folded in, and A the rows of those that are not (A = [P; s] with
the new facts' s last), what a step solves for is

    (F + Aᵀ A)⁻¹ sᵀ = F⁻¹ Aᵀ (I + A F⁻¹ Aᵀ)⁻¹ [0; I],

the matrix inversion lemma. F⁻¹ Pᵀ is kept, so that a step costs one solve with F's factor for its
own keys and one of the size of A, and not a factor of a (K, K) matrix.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from editcollapse.editors.normal_equation import NormalEquation

_FOLD = 8
"""Keys are folded into F from this part of its size on: a step then costs what K² does."""


class PastKeys:
    """S of one layer, and the keys that it is the sum of until it is smaller itself.

    Args:
        equation: of the layer and its editor.
    """

    def __init__(self, equation: NormalEquation) -> None:
        self._equation = equation
        self._keys: list[Tensor] = []
        """Of steps whose sum is not in ``_base``, (n, K) each."""
        self._base: Tensor | None = None
        """S of keys that are not kept."""
        self._factor: Tensor | None = equation.factor
        """Of F; None where keys are no finite numbers, and so nothing can be solved."""
        self._rows = torch.empty(0, equation.size, dtype=torch.float64)
        """P, (m, M)."""
        self._solved = self._rows
        """(F⁻¹ Pᵀ)ᵀ, (m, M)."""

    @property
    def gram(self) -> Tensor | None:
        """S, (M, M) float64, in the directions that the equation sees; None for zero."""
        if not self._keys:
            return self._base
        own = self._equation.gram(torch.cat(self._keys))
        return own if self._base is None else self._base + own

    def read(self, layer: int, tensors: Mapping[str, Tensor]) -> None:
        """Take what a file of states has; ``settle`` follows the last."""
        if f"gram.{layer}" in tensors:
            self._base = tensors[f"gram.{layer}"]
        if f"past.{layer}" in tensors:
            self._keys.append(tensors[f"past.{layer}"])

    def forget(self) -> None:
        """Drop what was read: a whole state follows."""
        self._keys, self._base = [], None

    def settle(self) -> None:
        """Make ready to solve with all that was read."""
        if self._base is not None:
            self._fold()
        elif self._keys:
            self._take(torch.cat(self._keys))

    def add(self, keys: Tensor) -> None:
        """Add a step's keys, (n, K) float64."""
        self._keys.append(keys)
        self._take(keys)

    def solve(self, keys: Tensor) -> Tensor:
        """Return Xᵀ of one joint edit that knows S, (n, K): dW = R Xᵀ.

        Args:
            keys: of its n facts, (n, K) float64.

        Returns:
            Of float64; nan where a key of any step is no finite number.
        """
        seen = self._equation.seen(keys)
        if self._factor is None or not bool(torch.isfinite(seen).all()):
            return torch.full_like(keys, torch.nan)
        rows = torch.cat([self._rows, seen])
        solved = torch.cat([self._solved, torch.cholesky_solve(seen.T, self._factor).T])
        inner = rows @ solved.T
        inner.diagonal().add_(1.0)
        factor, info = torch.linalg.cholesky_ex(inner)
        if int(info) != 0:
            return torch.full_like(keys, torch.nan)
        own = torch.zeros(len(rows), len(seen), dtype=torch.float64)
        own[len(self._rows) :] = torch.eye(len(seen), dtype=torch.float64)
        return self._equation.whole(torch.cholesky_solve(own, factor).T @ solved)

    def copied(self) -> "PastKeys":
        """Return what ``add`` to this one does not change."""
        found = PastKeys(self._equation)
        found._keys, found._base = list(self._keys), self._base
        found._factor, found._rows, found._solved = self._factor, self._rows, self._solved
        return found

    def tensors(self, layer: int) -> dict[str, Tensor]:
        """Return S of a layer to be stored: its keys, or itself where it is smaller."""
        if self._base is None and self._keys:
            keys = torch.cat(self._keys)
            if keys.numel() < self._equation.size**2:
                return {f"past.{layer}": keys}
        gram = self.gram
        return {} if gram is None else {f"gram.{layer}": gram}

    def _take(self, keys: Tensor) -> None:
        """Bring keys that ``_keys`` has already to where they are solved with."""
        if self._factor is None:
            return
        seen = self._equation.seen(keys)
        if not bool(torch.isfinite(seen).all()):
            # Keys of a collapsed model may be no numbers: nor is what would be written.
            self._factor = None
        elif len(self._rows) + len(seen) > self._equation.size // _FOLD:
            self._fold()
        else:
            solved = torch.cholesky_solve(seen.T, self._factor).T
            self._rows = torch.cat([self._rows, seen])
            self._solved = torch.cat([self._solved, solved])

    def _fold(self) -> None:
        """Let F have all keys."""
        self._factor = self._equation.factor_with(self.gram)
        self._rows = self._solved = self._rows[:0]
