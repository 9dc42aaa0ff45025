"""The uncentred second moment C = E[k kᵀ] of layers' keys, and solving with it.

Source: ROME (arXiv 2202.05262) sec. 3 and kmeng01/rome layer_stats; solved by Cholesky in float64
with a stated damping, never inverted.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from editcollapse.errors import MomentError
from editcollapse.models import LoadedModel
from editcollapse.shards import budgeted_rows, check_budget, cut
from editcollapse.summing import sum_keys
from editcollapse.sums import MomentSum

_SHARD_TOKENS = 65_536
"""Tokens whose documents are sorted by length together."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SecondMoment:
    """C of one layer."""

    matrix: Tensor
    """(K, K) float64 on the CPU: mean of k kᵀ."""
    n_tokens: int
    n_texts: int
    accumulation_error: float | None = None
    """Largest relative Frobenius distance of a checked float32 product to the float64 one."""

    @classmethod
    def of(cls, total: MomentSum) -> "SecondMoment":
        """Return the mean of a sum over at least one token."""
        return cls(total.mean(), total.n_tokens, total.n_texts, total.accumulation_error)


def measure_moments(
    loaded: LoadedModel,
    layers: Sequence[int],
    documents: Iterable[str],
    *,
    n_tokens: int,
    max_length: int,
    start_token: bool = False,
    shard_tokens: int = _SHARD_TOKENS,
    tokens_per_batch: int = 8192,
    on_tokens: Callable[[int, int], None] | None = None,
) -> list[SecondMoment]:
    """Return the second moments of some layers over the first tokens of a corpus, in one pass.

    What a study does in cached units (``covariance_units``), in one call. Products are float32
    (float64 for a float64 model), their sums are float64.

    Args:
        loaded: the model; nothing above the highest layer's key runs.
        layers: zero-based blocks, each once.
        documents: texts, read as a stream.
        n_tokens: token budget; exactly so many keys are summed, or all there are.
        max_length: tokens of a document at most; the model's own limit holds too.
        start_token: open each document with the model's start token.
        shard_tokens: tokens whose documents are sorted together.
        tokens_per_batch: padded tokens in one forward at most.
        on_tokens: called with tokens done and the budget.

    Raises:
        MomentError: the corpus has no tokens, or as ``sum_keys``.
    """
    rows = budgeted_rows(
        loaded.encoder,
        documents,
        n_tokens=n_tokens,
        max_length=max_length,
        start_token=start_token,
    )
    totals = [MomentSum.empty(loaded.widths.d_key, loaded.device) for _ in layers]
    for shard in cut(rows, shard_tokens):
        for total, part in zip(
            totals, sum_keys(loaded, layers, shard, tokens_per_batch), strict=True
        ):
            total.add_sum_(part)
        if on_tokens is not None:
            on_tokens(totals[0].n_tokens, n_tokens)
    check_budget(totals[0].n_tokens, n_tokens)
    return [SecondMoment.of(total) for total in totals]


def measure_moment(
    loaded: LoadedModel,
    layer: int,
    documents: Iterable[str],
    *,
    n_tokens: int,
    max_length: int,
    start_token: bool = False,
    tokens_per_batch: int = 8192,
    on_tokens: Callable[[int, int], None] | None = None,
) -> SecondMoment:
    """Return the second moment of one layer: ``measure_moments`` with one layer."""
    (moment,) = measure_moments(
        loaded,
        [layer],
        documents,
        n_tokens=n_tokens,
        max_length=max_length,
        start_token=start_token,
        tokens_per_batch=tokens_per_batch,
        on_tokens=on_tokens,
    )
    return moment


class MomentSolver:
    """Solves with C.

    Args:
        moment: (K, K), or None for the identity.
        damping: added to the diagonal, in units of its mean.

    Raises:
        MomentError: the damped matrix has no Cholesky factor.
    """

    def __init__(self, moment: Tensor | None, damping: float = 0.0) -> None:
        self._factor: Tensor | None = None
        if moment is None:
            return
        matrix = moment.double()
        damped = matrix + damping * matrix.diagonal().mean() * torch.eye(
            len(matrix), dtype=torch.float64, device=matrix.device
        )
        factor, info = torch.linalg.cholesky_ex(damped)
        if int(info) != 0 or not bool(torch.isfinite(factor).all()):
            raise MomentError(
                f"the second moment ({len(matrix)} x {len(matrix)}, damping {damping:g}) is "
                "singular. Raise `covariance.n_tokens` (some keys never fired) or set "
                "`covariance.damping`, for example 0.001."
            )
        self._factor = factor

    def solve(self, keys: Tensor) -> Tensor:
        """Return C⁻¹k for each key.

        Args:
            keys: (B, K), any float dtype.

        Returns:
            (B, K) float64 on the CPU; the keys themselves for the identity.
        """
        wide = keys.detach().cpu().double()
        if self._factor is None:
            return wide
        solved: Tensor = torch.cholesky_solve(wide.T, self._factor).T
        return solved

    def spread(self, rows: Tensor) -> Tensor:
        """Return sqrt(xᵀCx) of each row x: the root mean square of x · k over the keys k of C.

        Args:
            rows: (N, K), any float dtype.

        Returns:
            (N,) float64 on the CPU; with damping, that of the damped C; norms for the identity.
        """
        wide = rows.detach().cpu().double()
        if self._factor is not None:
            wide = wide @ self._factor
        spread: Tensor = wide.norm(dim=1)
        return spread
