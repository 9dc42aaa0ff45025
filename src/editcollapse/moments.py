"""The uncentred second moment C = E[k kᵀ] of a layer's keys, and solving with it.

Source: ROME (arXiv 2202.05262) sec. 3 and kmeng01/rome layer_stats; solved by Cholesky in float64
with a stated damping, never inverted.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from editcollapse.errors import MomentError
from editcollapse.models import LoadedModel, widened
from editcollapse.sites import EditSite
from editcollapse.tokens import pad_right

logger = logging.getLogger(__name__)

_GROUP = 100
"""Documents that are sorted by length together (kmeng01/rome layer_stats)."""
_CHECKED_TOKENS = 8192
"""Tokens over which float32 products are compared with float64 ones."""
_TOLERATED_ERROR = 1e-4


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SecondMoment:
    """C of one layer."""

    matrix: Tensor
    """(K, K) float64 on the CPU: mean of k kᵀ."""
    n_tokens: int
    n_texts: int
    accumulation_error: float | None = None
    """Relative Frobenius distance of the float32 products to float64 ones over the first tokens."""


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
    """Return the second moment of a layer's keys over the first tokens of a corpus.

    Documents are cut to ``max_length`` tokens; the last one is cut so that exactly ``n_tokens``
    keys are summed, or all there are. Products are float32 (float64 for a float64 model), their
    sum is float64.

    Args:
        loaded: the model; blocks above the layer do not run.
        layer: zero-based block.
        documents: texts, read as a stream.
        n_tokens: token budget.
        max_length: tokens of a document at most; the model's own limit holds too.
        start_token: open each document with the model's start token.
        tokens_per_batch: padded tokens in one forward at most.
        on_tokens: called with tokens done and the budget.

    Raises:
        MomentError: the corpus has no tokens, a key is not finite, or float32 products are too
            far from float64 ones.
    """
    site = EditSite(loaded, layer)
    running = RunningMoment(loaded.widths.d_key, loaded.device)
    n_texts = 0
    length = min(max_length, loaded.encoder.max_length)
    rows = _budgeted(loaded, documents, n_tokens, length, start_token=start_token)
    while group := list(islice(rows, _GROUP)):
        n_texts += len(group)
        for batch in _length_batches(group, tokens_per_batch):
            keys = _real_keys(site, batch)
            if not bool(torch.isfinite(keys).all()):
                raise MomentError(
                    f"keys of layer {layer} of {loaded.source} are not finite on the corpus: "
                    "load the model in float32 or check its weights."
                )
            running.add_(keys)
            if on_tokens is not None:
                on_tokens(running.n_tokens, n_tokens)
    if running.n_tokens == 0:
        raise MomentError("the corpus has no tokens. Give a text file with documents in it.")
    error = running.accumulation_error
    if error is not None and error > _TOLERATED_ERROR:
        raise MomentError(
            f"float32 sums of k kT are {error:.1e} from float64 ones. "
            'Use dtype = "float64" for this model.'
        )
    if running.n_tokens < n_tokens:
        logger.warning("the corpus holds %d tokens of the %d asked for", running.n_tokens, n_tokens)
    return SecondMoment(running.mean(), running.n_tokens, n_texts, error)


class RunningMoment:
    """A sum of k kᵀ: products in the keys' type, their sum in float64 beside the model.

    Args:
        d_key: K.
        device: of the keys; where it has no float64 the sum is kept on the CPU.
    """

    def __init__(self, d_key: int, device: torch.device) -> None:
        place = torch.device("cpu") if device.type == "mps" else device
        self._sum = torch.zeros((d_key, d_key), dtype=torch.float64, device=place)
        self._difference: Tensor | None = None
        self._checked_norm = 0.0
        self.n_tokens = 0

    def add_(self, keys: Tensor) -> None:
        """Add keys, (n, K), float32 or float64."""
        product = (keys.T @ keys).to(self._sum)
        self._sum += product
        if self.n_tokens < _CHECKED_TOKENS and keys.dtype == torch.float32:
            exact = keys.to(self._sum)
            difference = exact.T @ exact - product
            before = self._difference
            self._difference = difference if before is None else before + difference
            self._checked_norm = float(self._sum.norm())
        self.n_tokens += len(keys)

    @property
    def accumulation_error(self) -> float | None:
        """Relative distance of float32 products to float64 ones; None for a float64 model."""
        if self._difference is None or self._checked_norm == 0:
            return None
        return float(self._difference.norm()) / self._checked_norm

    def mean(self) -> Tensor:
        """Return C, (K, K) float64 on the CPU."""
        return (self._sum / self.n_tokens).cpu()


def _budgeted(
    loaded: LoadedModel, documents: Iterable[str], budget: int, length: int, *, start_token: bool
) -> Iterator[tuple[int, ...]]:
    """Yield token ids of documents until the budget is spent."""
    left = budget
    for text in documents:
        ids = loaded.encoder.sequence(text) if start_token else loaded.encoder.encode(text)
        ids = ids[: min(length, left)]
        if ids:
            yield ids
        left -= len(ids)
        if left <= 0:
            return


def _length_batches(
    rows: list[tuple[int, ...]], tokens_per_batch: int
) -> Iterator[list[tuple[int, ...]]]:
    """Yield the rows sorted by length, in batches of a bounded number of padded tokens."""
    batch: list[tuple[int, ...]] = []
    for row in sorted(rows, key=len):
        if batch and (len(batch) + 1) * len(row) > tokens_per_batch:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def _real_keys(site: EditSite, batch: list[tuple[int, ...]]) -> Tensor:
    """Return the keys of the batch's real tokens, (n, K), float32 or better."""
    states = site.read(pad_right(batch, site.loaded.device))
    lengths = torch.tensor([len(row) for row in batch], device=states.key.device)
    real = torch.arange(states.key.shape[1], device=states.key.device) < lengths[:, None]
    return widened(states.key[real])


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
