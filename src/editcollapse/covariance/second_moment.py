"""The uncentred second moment C = E[k kᵀ] of layers' keys: sums over a shard, and solves.

Half of each product is computed, products are float32, sums float64; sums of shards are merged by
addition. Several layers' sums come from one pass through the model.

Source: ROME (arXiv 2202.05262) sec. 3 and kmeng01/rome layer_stats; solved by Cholesky in float64
with a stated damping, never inverted.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editcollapse.compat import multiplies_half
from editcollapse.covariance.shards import Shard, budgeted_rows, check_budget, cut
from editcollapse.errors import ArtifactError, MomentError
from editcollapse.forward.batching import length_batches, padded_tokens, padding_share
from editcollapse.forward.keys import KeyReader
from editcollapse.models.loading import LoadedModel, widened
from editcollapse.models.tokenization import pad_right
from editcollapse.runtime.devices import has_float64
from editcollapse.runtime.oom import GroupLimit, oom_split
from editcollapse.runtime.precision import float32_products

if TYPE_CHECKING:
    from editcollapse.covariance.held_out import HeldOut
    from editcollapse.study.artifacts import ArtifactRef, ArtifactStore

logger = logging.getLogger(__name__)


_SLABS = 4
"""Row slabs of the upper triangle; measured at K = 3072 on two cores: 4 take 0.65 of a whole
product's time, 8 no less."""
_RUN = 2048
"""Tokens, rounded up to a batch, that are summed in float32 before they join the float64 sum; and
that one product of half types sums at most: tensor cores cut off what they add up (an H200, batches
of 10,000s of tokens: sums 1e-4 from float64 ones)."""
_PROBES = 16
"""Vectors of random signs g by which a float32 sum is compared with float64: E|P g|² is the squared
Frobenius norm of P, and the float64 sum need not be formed, since (Σ k kᵀ) g = Σ k (kᵀ g)."""
_COLUMNS = 1024
"""Of C that are multiplied with W at a time."""
_KIND = "sums"


@dataclasses.dataclass(slots=True, eq=False)
class MomentSum:
    """The sum of k kᵀ over some tokens, as row slabs of its upper triangle."""

    slabs: list[Tensor]
    """float64, slab s: (rows of the slab, K - first row), from the diagonal block on."""
    n_tokens: int = 0
    n_texts: int = 0
    accumulation_error: float | None = None
    """Relative Frobenius distance of the first float32 run to its float64 sum, as far as 16 random
    vectors tell, the largest where sums were merged; None for a float64 model."""

    @classmethod
    def empty(cls, d_key: int, device: torch.device) -> "MomentSum":
        """Return a sum over no tokens.

        Args:
            d_key: K.
            device: of the keys; where it has no float64 the sum is kept on the CPU.
        """
        target = torch.device("cpu") if device.type == "mps" else device
        return cls(_slabs(d_key, torch.float64, target))

    def add_sum_(self, other: "MomentSum") -> None:
        """Add the sum over other tokens of the same layer."""
        for slab, more in zip(self.slabs, other.slabs, strict=True):
            slab.add_(more.to(slab.device))
        self.n_tokens += other.n_tokens
        self.n_texts += other.n_texts
        if other.accumulation_error is not None:
            self.accumulation_error = max(other.accumulation_error, self.accumulation_error or 0.0)

    def mean(self) -> Tensor:
        """Return C, (K, K) float64 on the CPU, exactly symmetric."""
        d_key = self.slabs[0].shape[1]
        whole = torch.zeros((d_key, d_key), dtype=torch.float64)
        first = 0
        for slab in self.slabs:
            whole[first : first + len(slab), first:] = slab.cpu()
            first += len(slab)
        whole.triu_()
        whole /= self.n_tokens
        return whole + whole.triu(1).T


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class HalvedSum:
    """The sum over shards, and over about half of them: what C says is held against either half."""

    whole: MomentSum
    half: MomentSum

    @classmethod
    def empty(cls, d_key: int, device: torch.device) -> "HalvedSum":
        """Return the sums over no shard."""
        return cls(MomentSum.empty(d_key, device), MomentSum.empty(d_key, device))

    def add_shard_(self, part: MomentSum) -> None:
        """Add a shard's sum; it goes to that half which has fewer tokens so far."""
        if 2 * self.half.n_tokens <= self.whole.n_tokens:
            self.half.add_sum_(part)
        self.whole.add_sum_(part)


class RunningSum:
    """Sums keys batch by batch: float32 products join in float32 runs, the runs in float64.

    Args:
        d_key: K.
        device: of the keys.
    """

    def __init__(self, d_key: int, device: torch.device) -> None:
        self._total = MomentSum.empty(d_key, device)
        self._run: list[Tensor] = []
        self._n_run = 0
        self._exact: list[Tensor] = []
        """What the first run has to give times the probing vectors, float64, slab by slab."""

    @property
    def n_tokens(self) -> int:
        """Keys so far."""
        return self._total.n_tokens + self._n_run

    def add_keys_(self, keys: Tensor) -> None:
        """Add keys, (n, K), always of one type; half types where ``multiplies_half`` holds."""
        wide = torch.float64 if keys.dtype == torch.float64 else torch.float32
        if not self._run:
            self._run = _slabs(keys.shape[1], wide, keys.device)
        if self._total.n_tokens == 0 and wide == torch.float32:
            self._add_exact_(keys)
        first = 0
        for slab in self._run:
            last = first + len(slab)
            rows, columns = keys[:, first:last].T, keys[:, first:]
            if keys.dtype == wide:
                slab.addmm_(rows, columns)
            else:
                for start in range(0, len(keys), _RUN):
                    some = slice(start, start + _RUN)
                    slab.add_(torch.mm(rows[:, some], columns[some], out_dtype=wide))
            first = last
        self._n_run += len(keys)
        if self._n_run >= _RUN:
            self._end_run_()

    def total(self) -> MomentSum:
        """Return the sum of all keys so far; more may follow."""
        self._end_run_()
        return self._total

    def _add_exact_(self, keys: Tensor) -> None:
        """Add keys to what the first run has to give times the probing vectors."""
        slabs = self._total.slabs
        signs = _signs(keys.shape[1]).to(slabs[0])
        exact_keys = keys.to(slabs[0])
        first, found = 0, []
        for slab in slabs:
            last = first + len(slab)
            found.append(exact_keys[:, first:last].T @ (exact_keys[:, first:] @ signs[first:]))
            first = last
        if self._exact:
            found = [a + b for a, b in zip(self._exact, found, strict=True)]
        self._exact = found

    def _end_run_(self) -> None:
        """Join the run to the float64 sum; compare the first with what it has to give."""
        if not self._n_run:
            return
        if self._exact:
            self._total.accumulation_error = self._distance()
            self._exact = []
        for slab, run in zip(self._total.slabs, self._run, strict=True):
            slab.add_(run.to(slab.device))
            run.zero_()
        self._total.n_tokens += self._n_run
        self._n_run = 0

    def _distance(self) -> float:
        """Return the relative distance of the run to what it has to give; 0 where that is 0."""
        signs = _signs(self._run[0].shape[1]).to(self._exact[0])
        difference = norm = 0.0
        for run, exact in zip(self._run, self._exact, strict=True):
            found = run.to(exact) @ signs[-run.shape[1] :]
            difference += float((exact - found).square().sum())
            norm += float(exact.square().sum())
        return float((difference / norm) ** 0.5) if norm > 0 else 0.0


def _slabs(d_key: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Return zeros in the shapes of the slabs."""
    height = -(-d_key // _SLABS)
    return [
        torch.zeros((min(height, d_key - first), d_key - first), dtype=dtype, device=device)
        for first in range(0, d_key, height)
    ]


def _signs(d_key: int) -> Tensor:
    """Return the probing vectors, (K, 16), the same in every run."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2, (d_key, _PROBES), generator=generator) * 2 - 1


def put_sum(store: "ArtifactStore", total: MomentSum) -> "ArtifactRef":
    """Write a sum as one file.

    Raises:
        ResultsError: the folder cannot be written.
    """
    tensors = {f"slab_{index}": slab for index, slab in enumerate(total.slabs)}
    tensors["counts"] = torch.tensor([total.n_tokens, total.n_texts])
    error = total.accumulation_error
    if error is not None:
        tensors["accumulation_error"] = torch.tensor(error, dtype=torch.float64)
    return store.put_tensors(_KIND, tensors)


def read_sum(store: "ArtifactStore", ref: "ArtifactRef") -> MomentSum:
    """Return a sum that ``put_sum`` wrote, on the CPU.

    Raises:
        ArtifactError: the file is missing or its content has changed.
    """
    tensors = store.tensors(ref)
    n_tokens, n_texts = tensors["counts"].tolist()
    error = tensors.get("accumulation_error")
    slabs = sorted(name for name in tensors if name.startswith("slab_"))
    return MomentSum(
        slabs=[tensors[name] for name in slabs],
        n_tokens=n_tokens,
        n_texts=n_texts,
        accumulation_error=None if error is None else float(error),
    )


_TOLERATED_ERROR = 1e-4


@float32_products()
def sum_keys(
    loaded: LoadedModel,
    layers: Sequence[int],
    shard: Shard,
    tokens_per_batch: int,
    on_tokens: Callable[[int, int], None] | None = None,
) -> list[MomentSum]:
    """Return the sums of k kᵀ over the tokens of a shard, one for each layer, from one pass.

    Args:
        loaded: the model.
        layers: zero-based blocks, each once.
        shard: documents in tokens.
        tokens_per_batch: padded tokens in one forward at most; a longer document runs alone, and
            a batch that does not fit the device is split.
        on_tokens: called with tokens done and the shard's tokens.

    Raises:
        MomentError: a key is not finite, or float32 products are too far from float64 ones.
        DeviceMemoryError: a single document does not fit.
    """
    reader = KeyReader(loaded, layers)
    running = [RunningSum(loaded.widths.d_key, loaded.device) for _ in layers]
    lengths = [len(row) for row in shard.rows]
    batches = length_batches(lengths, tokens_per_batch)
    limit = GroupLimit(loaded.device, "keys of one document")
    for batch in batches:
        groups = oom_split(
            batch,
            lambda indices: _real_keys(reader, [shard.rows[index] for index in indices]),
            limit,
            lambda indices: padded_tokens(lengths, indices),
        )
        for _, found in groups:
            for layer, some, keys in zip(layers, running, found, strict=True):
                # One number says it: a sum is finite only where every key is.
                wide = torch.promote_types(keys.dtype, torch.float32)
                if not bool(torch.isfinite(keys.sum(dtype=wide))):
                    raise MomentError(
                        f"keys of layer {layer} of {loaded.source} are not finite on the corpus: "
                        "load the model in float32 or check its weights."
                    )
                some.add_keys_(keys)
            del found, keys  # not kept while the next batch runs
            if on_tokens is not None:
                on_tokens(running[0].n_tokens, shard.n_tokens)
    sums = [some.total() for some in running]
    for layer, total in zip(layers, sums, strict=True):
        total.n_texts = shard.n_texts
        error = total.accumulation_error
        if error is not None and error > _TOLERATED_ERROR:
            raise MomentError(
                f"float32 sums of k kT of layer {layer} of {loaded.source} are {error:.1e} from "
                'float64 ones. Use dtype = "float64" for this model.'
            )
    logger.info(
        "%s: %d tokens of %d texts in %d batches, %.1f %% padding",
        loaded.source,
        shard.n_tokens,
        shard.n_texts,
        len(batches),
        100 * padding_share(lengths, batches),
    )
    return sums


def _real_keys(reader: KeyReader, rows: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """Return the keys of the rows' real tokens, (n, K) for each layer.

    float32 or better, or in the type of the weights where the device multiplies that.
    """
    device = reader.loaded.device
    kept = (lambda key: key) if multiplies_half(device) else widened
    keys = reader.read(pad_right(rows, device))
    width = keys[0].shape[1]
    if all(len(row) == width for row in rows):
        return tuple(kept(key.flatten(0, 1)) for key in keys)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    real = torch.arange(width, device=device) < lengths[:, None]
    return tuple(kept(key[real]) for key in keys)


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
    half: MomentSum | None = None
    """Sum over about half of the tokens, all of a single document's; None where they are not known
    apart: of published statistics."""

    @classmethod
    def of(cls, total: HalvedSum) -> "SecondMoment":
        """Return the mean of a sum over at least one token."""
        whole, half = total.whole, total.half
        return cls(
            whole.mean(),
            whole.n_tokens,
            whole.n_texts,
            whole.accumulation_error,
            half,
        )

    def halves(self) -> tuple[Tensor, Tensor] | None:
        """Return the means over either half of the tokens, (K, K) float64; None where none is."""
        if self.half is None or self.half.n_tokens == self.n_tokens:
            return None
        first, n_first = self.half.mean(), self.half.n_tokens
        rest = self.matrix * self.n_tokens
        rest.sub_(first, alpha=n_first).div_(self.n_tokens - n_first)
        return first, rest


def put_moment(store: "ArtifactStore", moment: SecondMoment) -> "ArtifactRef":
    """Write C as one file: ``moment``, the mean; ``counts``; the slabs of the half's sum.

    Raises:
        ResultsError: the folder cannot be written.
    """
    half = moment.half
    slabs = [] if half is None else half.slabs
    tensors = {f"slab_{index}": slab.cpu() for index, slab in enumerate(slabs)}
    n_half = 0 if half is None else half.n_tokens
    tensors["counts"] = torch.tensor([moment.n_tokens, n_half])
    tensors["moment"] = moment.matrix
    return store.put_tensors("moments", tensors)


def read_moment(store: "ArtifactStore", ref: "ArtifactRef") -> SecondMoment:
    """Return C as ``put_moment`` wrote it, for forecasts; its number of texts is left out.

    Raises:
        ArtifactError: the file is missing, its content has changed, or an earlier version wrote it,
            which did not keep the halves.
    """
    tensors = store.tensors(ref)
    if "counts" not in tensors:
        raise ArtifactError(
            f"{ref.path} was written by an earlier version: it does not tell how many tokens C has "
            "and what its halves are, so nothing can be forecast. Run the study again: C is "
            "measured anew, edits are kept."
        )
    n_tokens, n_half = tensors["counts"].tolist()
    slabs = sorted(name for name in tensors if name.startswith("slab_"))
    half = MomentSum([tensors[name] for name in slabs], n_half) if n_half else None
    return SecondMoment(tensors["moment"], n_tokens, 0, half=half)


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

    What a study does in cached units (``covariance``), in one call. Products are float32
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
    return moments_of_rows(
        loaded,
        layers,
        rows,
        n_tokens=n_tokens,
        shard_tokens=shard_tokens,
        tokens_per_batch=tokens_per_batch,
        on_tokens=on_tokens,
    )


def moments_of_rows(
    loaded: LoadedModel,
    layers: Sequence[int],
    rows: Iterable[tuple[int, ...]],
    *,
    n_tokens: int,
    shard_tokens: int = _SHARD_TOKENS,
    tokens_per_batch: int = 8192,
    on_tokens: Callable[[int, int], None] | None = None,
) -> list[SecondMoment]:
    """Return the second moments of some layers over documents in token ids; as ``measure_moments``.

    Args:
        loaded: the model.
        layers: zero-based blocks, each once.
        rows: token ids of each document, read as a stream, cut to the budget.
        n_tokens: the budget, for ``on_tokens`` and a warning.
        shard_tokens: tokens whose documents are sorted together.
        tokens_per_batch: padded tokens in one forward at most.
        on_tokens: called with tokens done and the budget.

    Raises:
        MomentError: there are no tokens, or as ``sum_keys``.
    """
    totals = [HalvedSum.empty(loaded.widths.d_key, loaded.device) for _ in layers]
    for shard in cut(rows, shard_tokens):
        for total, part in zip(
            totals, sum_keys(loaded, layers, shard, tokens_per_batch), strict=True
        ):
            total.add_shard_(part)
        if on_tokens is not None:
            on_tokens(totals[0].whole.n_tokens, n_tokens)
    check_budget(totals[0].whole.n_tokens, n_tokens)
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


def damped(moment: Tensor, damping: float) -> Tensor:
    """Return C as it is solved with; C itself, not a copy, where nothing is added.

    Args:
        moment: C, (K, K) float64.
        damping: added to the diagonal, in units of its mean.
    """
    if damping == 0:
        return moment
    found = moment.clone()
    found.diagonal().add_(damping * moment.diagonal().mean())
    return found


class MomentSolver:
    """Solves with C.

    Args:
        moment: (K, K), or None for the identity.
        damping: added to the diagonal, in units of its mean.
        n_tokens: that C was measured on, for verdicts.
        held_out: the halves of these tokens, for ``optimism``.

    Raises:
        MomentError: the damped matrix has no Cholesky factor.
    """

    def __init__(
        self,
        moment: Tensor | None,
        damping: float = 0.0,
        *,
        n_tokens: int | None = None,
        held_out: "HeldOut | None" = None,
    ) -> None:
        self._factor: Tensor | None = None
        self._undamped: Tensor | None = None
        """C itself, where the factor is of another matrix."""
        self._held_out = held_out
        self.n_tokens = n_tokens
        """Tokens of C; None for the identity, and where nobody needs to know."""
        self.tokens_per_d_key: float | None = None
        """The same for each dimension of C."""
        if moment is None:
            return
        if n_tokens is not None:
            self.tokens_per_d_key = n_tokens / len(moment)
        matrix = moment.double()
        factor, info = torch.linalg.cholesky_ex(damped(matrix, damping))
        if int(info) != 0 or not bool(torch.isfinite(factor).all()):
            raise MomentError(
                f"the second moment ({len(matrix)} x {len(matrix)}, damping {damping:g}) is "
                "singular. Raise `covariance.n_tokens` (some keys never fired) or set "
                "`covariance.damping`, for example 0.001."
            )
        self._factor = factor
        if damping != 0:
            self._undamped = matrix

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
            (N,) float64 on the CPU, of C without its damping; norms for the identity.
        """
        wide = rows.detach().cpu().double()
        if self._undamped is not None:
            squared = ((wide @ self._undamped) * wide).sum(dim=1)
            root: Tensor = squared.clamp(min=0.0).sqrt()
            return root
        if self._factor is not None:
            wide = wide @ self._factor
        spread: Tensor = wide.norm(dim=1)
        return spread

    def output_spread(self, weight: Tensor) -> float:
        """Return sqrt(tr(W C Wᵀ)): the root mean square of ‖W k‖ over the keys k of C.

        Computed on the weight's device where that has float64, some columns at a time.

        Args:
            weight: W as (D, K), any float dtype.

        Returns:
            Of C without its damping; the Frobenius norm for the identity.
        """
        device = weight.device if has_float64(weight.device) else torch.device("cpu")
        wide = weight.detach().to(device).double()
        matrix = self._factor if self._undamped is None else self._undamped
        if matrix is None:
            return float(wide.norm())
        total = 0.0
        for first in range(0, matrix.shape[1], _COLUMNS):
            some = slice(first, first + _COLUMNS)
            product = wide @ matrix[:, some].to(device)
            other = product if self._undamped is None else wide[:, some]
            total += float((product * other).sum())
        return float(max(total, 0.0) ** 0.5)

    def optimism(self, keys: Tensor) -> Tensor:
        """Return how many times larger the spread of C⁻¹k is over other tokens than those of C.

        Args:
            keys: (B, K), any float dtype.

        Returns:
            (B,) float64 on the CPU, as ``HeldOut.optimism``; 1 without halves.
        """
        if self._held_out is None:
            return torch.ones(len(keys), dtype=torch.float64)
        return self._held_out.optimism(keys)
