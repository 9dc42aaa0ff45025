"""Bounds on the size of an update from keys and C alone: the certificate of a forecast.

Every method writes r / (a · u) along u. Its numerator is ``delta`` plus what ``v0 - value`` adds,
and ``delta`` is cut to ``clamp_factor`` · ‖v0‖ while it is optimised: so the norm of the update has
a bound that no v* can exceed. What it does to text follows: over the keys k that C was measured on,
the layer's value W k changes by ‖update‖ · sqrt(uᵀCu) in the root mean square, where it was
sqrt(tr(W C Wᵀ)); C is the undamped one in both. Over other text it changes by more, as u was solved
with these very keys: the bound is raised by what halves of them show (``covariance.held_out``).

It bounds how much the layer's output changes, not the damage: a small change may do much.

Source: ROME (arXiv 2202.05262) sec. 3 and compute_v (the clamp); C-ROME (arXiv 2406.11263) sec. 3
(which keys divide).
"""

import dataclasses

from torch import Tensor

from editcollapse.catalog.methods import Method
from editcollapse.covariance.second_moment import MomentSolver
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import RewriteKeys
from editcollapse.models.loading import widened
from editcollapse.rome.updates import SolvedDirections, solved_directions


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LayerGeometry:
    """Scales of one layer that all its edits are compared with; made once for each C."""

    solver: MomentSolver
    weight_norm: float
    """‖W‖, Frobenius."""
    output_spread: float
    """sqrt(tr(W C Wᵀ)): root mean square of ‖W k‖ over the keys of C; ‖W‖ for the identity."""

    @classmethod
    def of(cls, hooked: HookedLayer, solver: MomentSolver) -> "LayerGeometry":
        """Return the geometry of a layer under a second moment."""
        weight = hooked.loaded.weight(hooked.layer)
        return cls(solver, float(_wide(weight).norm()), solver.output_spread(weight))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class KeyFacts:
    """Keys and values of B rewrites before any edit, float64 on the CPU."""

    bare_key: Tensor
    """k0, (B, K)."""
    prefixed_key: Tensor
    """kbar, (B, K)."""
    bare_value: Tensor
    """v0, (B, D)."""
    prefixed_value: Tensor
    """vbar, (B, D): mean of the values over all contexts."""

    @classmethod
    def of(cls, hooked: HookedLayer, keys: RewriteKeys) -> "KeyFacts":
        """Return the facts of keys that were read at a hooked layer."""
        values = widened(hooked.projection(keys.prompt_keys.to(hooked.loaded.dtype)))
        return cls(
            bare_key=_wide(keys.bare_key),
            prefixed_key=_wide(keys.prefixed_key),
            bare_value=_wide(keys.bare_value),
            prefixed_value=_wide(values.mean(dim=1)),
        )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class UpdateBounds:
    """Bounds on B updates of one method before v* is known; each (B,) float64 on the CPU."""

    directions: SolvedDirections
    """u, the dot products with it, the denominators and rho."""
    numerator_bound: Tensor
    """What ‖r‖ cannot exceed."""
    certified_bound: Tensor
    """What the update's Frobenius norm cannot exceed; infinite where the denominator is 0."""
    relative_bound: Tensor
    """The same over ‖W‖."""
    text_change_bound: Tensor
    """What the change of W k cannot exceed, in the root mean square over the keys of C, in units of
    W k's own."""


def update_bounds(
    facts: KeyFacts, method: Method, geometry: LayerGeometry, clamp_factor: float
) -> UpdateBounds:
    """Return the bounds of one method's updates.

    Args:
        facts: keys and values of B rewrites.
        method: which key solves, which divides, what is written.
        geometry: C and the edited weight's norms.
        clamp_factor: of the v* optimisation: ‖delta‖ stays at or below it times ‖v0‖.
    """
    solver = geometry.solver
    found = solved_directions(facts.bare_key, facts.prefixed_key, method, solver)
    solved_key = facts.bare_key if method.solve_with == "bare" else facts.prefixed_key
    numerator = clamp_factor * facts.bare_value.norm(dim=1)
    if method.value_from == "prefixed":
        numerator = numerator + (facts.bare_value - facts.prefixed_value).norm(dim=1)
    bound = numerator / found.denominator.abs()
    spread = solver.spread(found.right) * solver.optimism(solved_key)
    return UpdateBounds(
        directions=found,
        numerator_bound=numerator,
        certified_bound=bound,
        relative_bound=bound / geometry.weight_norm,
        text_change_bound=bound * spread / geometry.output_spread,
    )


def text_changes(update_norms: Tensor, right: Tensor, geometry: LayerGeometry) -> Tensor:
    """Return how much updates change W k on text: sqrt(tr(ΔW C ΔWᵀ) / tr(W C Wᵀ)), C undamped.

    Exact over the keys of C, and known as soon as v* is, without any evaluation.

    Args:
        update_norms: (B,) float64, ‖r‖ / |a · u|.
        right: (B, K) float64, u of unit length.
        geometry: C, and the edited layer's norms.

    Returns:
        (B,) float64 on the CPU, in units of W k's own root mean square.
    """
    return update_norms * geometry.solver.spread(right) / geometry.output_spread


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()
