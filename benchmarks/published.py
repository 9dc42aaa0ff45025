"""Shared parts of the reference: the model, padded rows, half types widened."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Published:
    """A causal LM in evaluation mode whose parameters take no gradients, and what is rewritten."""

    model: nn.Module
    projection: nn.Module
    """The down projection: Conv1D, weight (K, D), or Linear, weight (D, K)."""
    transposed: bool
    """True for Conv1D."""
    n_positions: int
    """Tokens that the model takes."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def matrix(self) -> Tensor:
        """W of what is rewritten, (D, K): a view, so that what is written there is kept."""
        weight = self.projection.weight
        assert isinstance(weight, Tensor)
        return weight.detach().T if self.transposed else weight.detach()


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return rows as int64 (N, T), zeros on the right, and their attention mask."""
    width = max(len(row) for row in rows)
    ids = [[*row, *([0] * (width - len(row)))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def wide(tensor: Tensor) -> Tensor:
    """Return float32 for half types; float32 and float64 stay."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
