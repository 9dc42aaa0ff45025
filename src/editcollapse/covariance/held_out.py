"""How far C's own tokens flatter a direction that was solved with it: u of one half on the other.

u = C⁻¹k is small just where these tokens are, so uᵀCu, taken over the same tokens, is too small for
any other text; with as many tokens as dimensions by orders of magnitude. C is a mean over shards.
From either half of them a direction is solved, and measured over its own half and over the other:
the ratio is what a spread over C's own tokens lacks. It is that of half the tokens, and so more
than what all of them lack.

Source: Stone, Cross-Validatory Choice and Assessment of Statistical Predictions, 1974.
"""

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from editcollapse.covariance.second_moment import MomentSolver, SecondMoment
from editcollapse.errors import MomentError


class HeldOut:
    """C of either half of the tokens, factored when it is first needed.

    Args:
        halves: gives the mean of k kᵀ over either half, (K, K) float64; None where there is but
            one. Called once.
        damping: as edits solve with.
    """

    def __init__(self, halves: Callable[[], tuple[Tensor, Tensor] | None], damping: float) -> None:
        self._halves: Callable[[], tuple[Tensor, Tensor] | None] | None = halves
        self._damping = damping
        self._solvers: tuple[MomentSolver, MomentSolver] | None = None
        self._lock = threading.Lock()

    def optimism(self, keys: Tensor) -> Tensor:
        """Return how many times larger a direction's spread is over tokens that it does not know.

        The root of the mean of two squared ratios, one for each half that a direction is solved of.

        Args:
            keys: (B, K), those that directions are solved for.

        Returns:
            (B,) float64 on the CPU, at least 1; infinite where a half is missing or has no Cholesky
            factor: nothing is then known of other tokens.
        """
        with self._lock:
            if self._halves is not None:
                self._solvers = _factored(self._halves(), self._damping)
                self._halves = None  # and with it what it holds
        if self._solvers is None:
            return torch.full((len(keys),), torch.inf, dtype=torch.float64)
        one, other = self._solvers
        ratios = []
        for own, held_out in ((one, other), (other, one)):
            direction = own.solve(keys)
            ratios.append(held_out.spread(direction) / own.spread(direction))
        mean: Tensor = torch.stack(ratios).square().mean(dim=0).sqrt()
        return mean.clamp(min=1.0)


def factored(moment: SecondMoment, damping: float) -> MomentSolver:
    """Return the solver with C, which knows its tokens and its halves.

    Raises:
        MomentError: the damped matrix has no Cholesky factor.
    """
    return MomentSolver(
        moment.matrix,
        damping,
        n_tokens=moment.n_tokens,
        held_out=None if moment.half is None else HeldOut(moment.halves, damping),
    )


def _factored(
    halves: tuple[Tensor, Tensor] | None, damping: float
) -> tuple[MomentSolver, MomentSolver] | None:
    if halves is None:
        return None
    first, second = halves
    try:
        return MomentSolver(first, damping), MomentSolver(second, damping)
    except MomentError:
        return None
