"""S of a sequence: the keys of earlier steps, layer by layer, as stored and as solved with."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class PastKeys:
    """S of one layer, and the keys that it is the sum of until it is smaller itself."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.base: Tensor | None = None
        """Sum of K Kᵀ of keys that are not kept, as ``NormalEquation.gram`` gives it."""
        self.gram: Tensor | None = None
        """S; None for zero."""

    def read(self, layer: int, tensors: Mapping[str, Tensor]) -> None:
        """Take what a file of states has."""
        if f"gram.{layer}" in tensors:
            self.base = tensors[f"gram.{layer}"]
        if f"past.{layer}" in tensors:
            self.keys.append(tensors[f"past.{layer}"])

    def forget(self) -> None:
        """Drop what was read: a whole state follows."""
        self.keys, self.base = [], None

    def settle(self, gram_of: Callable[[Tensor], Tensor]) -> None:
        """Work out S of all that was read."""
        self.gram = None if self.base is None else self.base.clone()
        if self.keys:
            own = gram_of(torch.cat(self.keys))
            self.gram = own if self.gram is None else self.gram + own

    def add(self, keys: Tensor, gram: Tensor) -> None:
        """Add keys."""
        self.keys.append(keys)
        self.gram = gram if self.gram is None else self.gram + gram

    def copied(self) -> "PastKeys":
        """Return what ``add`` does not change."""
        found = PastKeys()
        found.keys, found.base, found.gram = list(self.keys), self.base, self.gram
        return found

    def tensors(self, layer: int) -> dict[str, Tensor]:
        """Return S of a layer to be stored: its keys, or itself where it is smaller."""
        if self.gram is None:
            return {}
        n_keys = sum(len(keys) for keys in self.keys)
        if self.base is None and n_keys * self.keys[0].shape[1] < self.gram.numel():
            return {f"past.{layer}": torch.cat(self.keys)}
        return {f"gram.{layer}": self.gram}
