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
_CHECKED_TOKENS = 2048
"""Tokens over which float32 products are compared with float64 ones, rounded up to a batch."""
_PROBES = 16
"""Vectors of random signs g by which products are compared: E|P g|² is the squared Frobenius norm
of P, and the float64 product need not be formed, since (kᵀk) g = kᵀ(k g)."""
_KIND = "sums"


@dataclasses.dataclass(slots=True, eq=False)
class MomentSum:
    """The sum of k kᵀ over some tokens, as row slabs of its upper triangle."""

    slabs: list[Tensor]
    """float64, slab s: (rows of the slab, K - first row), from the diagonal block on."""
    n_tokens: int = 0
    n_texts: int = 0
    accumulation_error: float | None = None
    """Largest relative Frobenius distance of a checked float32 product to the float64 one, as far
    as 16 random vectors tell; None for a float64 model."""

    @classmethod
    def empty(cls, d_key: int, device: torch.device) -> "MomentSum":
        """Return a sum over no tokens.

        Args:
            d_key: K.
            device: of the keys; where it has no float64 the sum is kept on the CPU.
        """
        place = torch.device("cpu") if device.type == "mps" else device
        height = -(-d_key // _SLABS)
        return cls(
            [
                torch.zeros(
                    (min(height, d_key - first), d_key - first), dtype=torch.float64, device=place
                )
                for first in range(0, d_key, height)
            ]
        )

    def add_keys_(self, keys: Tensor) -> None:
        """Add keys, (n, K), float32 or float64."""
        is_checked = self.n_tokens < _CHECKED_TOKENS and keys.dtype == torch.float32
        exact_keys = keys.to(self.slabs[0]) if is_checked else None
        signs = _signs(keys.shape[1]).to(self.slabs[0]) if is_checked else None
        difference = norm = 0.0
        first = 0
        for slab in self.slabs:
            last = first + len(slab)
            product = (keys[:, first:last].T @ keys[:, first:]).to(slab.device)
            slab.add_(product)
            if exact_keys is not None and signs is not None:
                exact = exact_keys[:, first:last].T @ (exact_keys[:, first:] @ signs[first:])
                found = product.to(exact) @ signs[first:]
                difference += float((exact - found).square().sum())
                norm += float(exact.square().sum())
            first = last
        if norm > 0:
            error = (difference / norm) ** 0.5
            self.accumulation_error = max(error, self.accumulation_error or 0.0)
        self.n_tokens += len(keys)

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
