"""Sums of k kᵀ: half of each product, float32 products, float64 sums, merged by addition."""

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from editcollapse.artifacts import ArtifactRef, ArtifactStore

_SLABS = 4
"""Row slabs of the upper triangle; measured at K = 3072 on two cores: 4 take 0.65 of a whole
product's time, 8 no less."""
_RUN = 2048
"""Tokens, rounded up to a batch, that are summed in float32 before they join the float64 sum."""
_PROBES = 16
"""Vectors of random signs g by which a float32 sum is compared with float64: E|P g|² is the squared
Frobenius norm of P, and the float64 sum need not be formed, since (Σ k kᵀ) g = Σ k (kᵀ g)."""
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
        place = torch.device("cpu") if device.type == "mps" else device
        return cls(_slabs(d_key, torch.float64, place))

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
                slab.add_(torch.mm(rows, columns, out_dtype=wide))
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
