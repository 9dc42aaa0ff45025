"""Independent edits of several layers, or of full rank: each row of a batch carries its own change.

A change of W in some layers is added to the values of those layers' down projections while a
forward runs: ``(W + dW) k = W k + dW k``. The weights stay as they are.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from editcollapse.models.loading import LoadedModel


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LayerChange:
    """E independent changes dW of one layer's down projection, as factors or whole."""

    layer: int
    left: Tensor
    """(E, D, R), or the changes themselves, (E, D, K), where ``right`` is None."""
    right: Tensor | None
    """(E, R, K): dW = left right."""

    def __len__(self) -> int:
        return len(self.left)

    def rows(self, index: "slice | Tensor") -> "LayerChange":
        """Return some of the changes."""
        right = None if self.right is None else self.right[index]
        return LayerChange(self.layer, self.left[index], right)

    def to(self, device: torch.device, dtype: torch.dtype) -> "LayerChange":
        """Return the changes elsewhere or in another type."""
        right = None if self.right is None else self.right.to(device, dtype)
        return LayerChange(self.layer, self.left.to(device, dtype), right)

    def matrix(self, index: int) -> Tensor:
        """Return one change multiplied out, (D, K)."""
        return self.left[index] if self.right is None else self.left[index] @ self.right[index]

    def of_each(self, key: Tensor) -> Tensor:
        """Return dW k of every token under every change, (E, N, T, D).

        Args:
            key: (N, T, K), float32 or better.
        """
        if self.right is None:
            return torch.einsum("ntk,edk->entd", key, self.left.to(key))
        dots = torch.einsum("ntk,erk->entr", key, self.right.to(key))
        return torch.einsum("entr,edr->entd", dots, self.left.to(key))

    def of_own(self, key: Tensor, owner: Tensor) -> Tensor:
        """Return dW k of every token where each row has its own change, (N, T, D).

        Args:
            key: (N, T, K), float32 or better.
            owner: int64 (N,): each row's change.
        """
        left = self.left.to(key)[owner]
        if self.right is None:
            return key @ left.transpose(1, 2)
        return (key @ self.right.to(key)[owner].transpose(1, 2)) @ left.transpose(1, 2)

    def of_all(self, key: Tensor) -> Tensor:
        """Return dW k of every token under the only change, (..., D).

        Args:
            key: (..., K), float32 or better.
        """
        (left,) = self.left.to(key)
        if self.right is not None:
            (right,) = self.right.to(key)
            key = key @ right.T
        change: Tensor = key @ left.T
        return change


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class WeightChanges:
    """E independent edits, each a change of the same layers."""

    layers: tuple[LayerChange, ...]
    """In ascending order, one at least."""

    def __len__(self) -> int:
        return len(self.layers[0])

    @property
    def lowest(self) -> int:
        """The lowest layer that is changed: what lies below runs once for all edits."""
        return self.layers[0].layer

    def rows(self, index: "slice | Tensor") -> "WeightChanges":
        """Return some of the edits."""
        return WeightChanges(tuple(each.rows(index) for each in self.layers))

    def to(self, device: torch.device, dtype: torch.dtype) -> "WeightChanges":
        """Return the edits elsewhere or in another type."""
        return WeightChanges(tuple(each.to(device, dtype) for each in self.layers))


@contextmanager
def added(loaded: LoadedModel, changes: Sequence[LayerChange], owner: Tensor) -> Iterator[None]:
    """Add changes to the values of their layers in every forward of the block; hooks are removed.

    Args:
        loaded: the model; its weights stay as they are.
        changes: of some layers.
        owner: int64 (N,): the change of each row of the forwards.
    """

    def hook(change: LayerChange) -> Any:
        def add(_: nn.Module, inputs: tuple[Tensor, ...], value: Tensor) -> Tensor:
            key = inputs[0].view(len(owner), -1, inputs[0].shape[-1])  # some families flatten it
            exact = key if key.dtype == torch.float64 else key.float()
            moved = change.of_own(exact, owner)
            return (value + moved.view(value.shape).to(value.dtype)).to(value.dtype)

        return loaded.down_projection(change.layer).register_forward_hook(add)

    with ExitStack() as stack:
        for change in changes:
            stack.callback(hook(change).remove)
        yield
