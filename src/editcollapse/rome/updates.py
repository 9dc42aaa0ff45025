"""Rank-one updates of all methods from one v*, with the diagnostics that explain a collapse.

Source: the family map of ``methods``; ROME (arXiv 2202.05262) eq. 2, C-ROME (arXiv 2406.11263)
eq. 4, r-ROME and p-ROME (arXiv 2403.07175).
"""

import dataclasses

import torch
from torch import Tensor

from editcollapse.catalog.architectures import Widths
from editcollapse.catalog.methods import Method
from editcollapse.covariance.second_moment import MomentSolver
from editcollapse.rome.values import TargetValues
from editcollapse.runtime.devices import has_float64


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RankOneUpdates:
    """B independent updates W'_b = W + left_b rightᵀ_b; never multiplied out unless asked."""

    left: Tensor
    """(B, D): r / (a · u)."""
    right: Tensor
    """(B, K): u, of unit length."""

    def __len__(self) -> int:
        return len(self.left)

    def matrix(self, index: int) -> Tensor:
        """Return one update multiplied out, (D, K)."""
        return torch.outer(self.left[index], self.right[index])

    def rows(self, index: slice | Tensor) -> "RankOneUpdates":
        """Return some of the updates."""
        return RankOneUpdates(self.left[index], self.right[index])

    def to(self, device: torch.device, dtype: torch.dtype) -> "RankOneUpdates":
        """Return the updates elsewhere or in another type."""
        return RankOneUpdates(self.left.to(device, dtype), self.right.to(device, dtype))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class UpdateDiagnostics:
    """Scalars of B updates, each (B,) float64 on the CPU."""

    numerator_norm: Tensor
    """‖r‖."""
    denominator: Tensor
    """a · u, signed."""
    rho: Tensor
    """(k0 · u) / (kbar · u)."""
    bare_key_dot: Tensor
    """k0 · u."""
    prefixed_key_dot: Tensor
    """kbar · u."""
    bare_key_norm: Tensor
    prefixed_key_norm: Tensor
    key_cosine: Tensor
    """cos(k0, kbar)."""
    delta_norm: Tensor
    bare_value_norm: Tensor
    update_norm: Tensor
    """‖r‖ / |a · u|, the Frobenius norm of the update."""
    relative_update_norm: Tensor
    """The same over ‖W‖."""
    update_norm_bound: Tensor
    """clamp · ‖v0‖ / |k0 · u|: what ROME's update cannot exceed, known before optimising."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SolvedDirections:
    """Directions and denominators of B updates from keys and C alone, float64 on the CPU."""

    right: Tensor
    """(B, K): u, of unit length."""
    bare_dot: Tensor
    """(B,): k0 · u."""
    prefixed_dot: Tensor
    """(B,): kbar · u."""
    denominator: Tensor
    """(B,): a · u, signed."""

    @property
    def rho(self) -> Tensor:
        """(B,): (k0 · u) / (kbar · u); near 0 where ROME's update explodes."""
        return self.bare_dot / self.prefixed_dot


def solved_directions(
    bare_key: Tensor, prefixed_key: Tensor, method: Method, solver: MomentSolver
) -> SolvedDirections:
    """Return u and the denominators of one method: C-ROME (arXiv 2406.11263) sec. 3.

    Args:
        bare_key: k0, (B, K), any float dtype.
        prefixed_key: kbar, (B, K).
        method: which key solves and which divides.
        solver: C.
    """
    bare, prefixed = _wide(bare_key), _wide(prefixed_key)
    solved = solver.solve(bare if method.solve_with == "bare" else prefixed)
    right = solved / solved.norm(dim=1, keepdim=True)
    bare_dot = (bare * right).sum(dim=1)
    prefixed_dot = (prefixed * right).sum(dim=1)
    denominator = bare_dot if method.divide_with == "bare" else prefixed_dot
    return SolvedDirections(right, bare_dot, prefixed_dot, denominator)


def rank_one_updates(
    values: TargetValues,
    method: Method,
    solver: MomentSolver,
    weight: Tensor,
    clamp_factor: float,
) -> tuple[RankOneUpdates, UpdateDiagnostics]:
    """Return the updates of one method and their diagnostics.

    Args:
        values: keys, values and delta of B edits.
        method: which key solves, which divides, what is written.
        solver: C.
        weight: W as (D, K); read for its norm only.
        clamp_factor: of the v* optimisation, for the bound.

    Returns:
        The updates as float64 on the CPU. A denominator of zero gives infinite entries, which the
        evaluation then reports as a collapse.
    """
    bare, prefixed = (_wide(values.bare_key), _wide(values.prefixed_key))
    found = solved_directions(bare, prefixed, method, solver)
    v0, vbar, delta = (
        _wide(values.bare_value),
        _wide(values.prefixed_value),
        _wide(values.delta),
    )
    residual = delta if method.value_from == "bare" else v0 + delta - vbar
    left = residual / found.denominator[:, None]
    numerator_norm = residual.norm(dim=1)
    update_norm = numerator_norm / found.denominator.abs()
    diagnostics = UpdateDiagnostics(
        numerator_norm=numerator_norm,
        denominator=found.denominator,
        rho=found.rho,
        bare_key_dot=found.bare_dot,
        prefixed_key_dot=found.prefixed_dot,
        bare_key_norm=bare.norm(dim=1),
        prefixed_key_norm=prefixed.norm(dim=1),
        key_cosine=torch.cosine_similarity(bare, prefixed, dim=1),
        delta_norm=delta.norm(dim=1),
        bare_value_norm=v0.norm(dim=1),
        update_norm=update_norm,
        relative_update_norm=update_norm / _norm(weight),
        update_norm_bound=clamp_factor * v0.norm(dim=1) / found.bare_dot.abs(),
    )
    return RankOneUpdates(left, found.right), diagnostics


def no_update(widths: Widths) -> RankOneUpdates:
    """Return one update that changes nothing: the unedited model."""
    return RankOneUpdates(
        torch.zeros((1, widths.d_model), dtype=torch.float64),
        torch.zeros((1, widths.d_key), dtype=torch.float64),
    )


def _norm(weight: Tensor) -> Tensor:
    """Return the float64 Frobenius norm of W on the CPU, taken where W is: W itself stays there."""
    wide = weight.detach().double() if has_float64(weight.device) else _wide(weight)
    norm: Tensor = wide.norm().cpu()
    return norm


def _wide(tensor: Tensor) -> Tensor:
    """Return a tensor as float64 on the CPU, where the small algebra is done."""
    return tensor.detach().cpu().double()
