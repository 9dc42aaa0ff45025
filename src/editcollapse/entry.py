"""The entry of the block above the edited layer: what it reads of the residual stream directly.

A block begins with a norm of its input and the linear maps that alone read it: queries, keys and
values, and the MLP's first matrix where attention and MLP run in parallel. An edit changes that
input by something simple, so most of those products need no second computation:

- v* moves one token of a row; for all others they are as they were (``overwritten``);
- an edited model moves every token along one direction, and a linear map of a sum is a sum
  (``moved_entry.RankOneEntry``).

The block runs on a view whose entry modules are replaced; the resident model is never changed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from editcollapse.models import LoadedModel
from editcollapse.stand_ins import GivenOnce, Passing, with_modules


class BlockEntry:
    """The entry of one block.

    Args:
        loaded: the model.
        layer: zero-based block.
    """

    def __init__(self, loaded: LoadedModel, layer: int) -> None:
        self.block = loaded.blocks[layer]
        self.centred = loaded.architecture.norm == "layer"
        """Whether the norms subtract the mean."""
        self.from_one = loaded.architecture.norm == "rms_from_one"
        """Whether their weights count from one."""
        self._paths = [(entry.norm, entry.projections) for entry in loaded.entries]
        self.parts = [
            (self.block.get_submodule(norm), [self.block.get_submodule(path) for path in paths])
            for norm, paths in self._paths
        ]
        """Each norm with the linear maps that read it."""

    @torch.no_grad()
    def outputs(self, residual: Tensor) -> list[Tensor]:
        """Return what every linear map gives for some tokens, (..., out) each.

        Args:
            residual: the block's input, (..., D), dtype of the weights.
        """
        found = []
        for norm, projections in self.parts:
            normed = norm(residual)
            found += [projection(normed) for projection in projections]
        return found

    def given(self, outputs: Sequence[Tensor]) -> nn.Module:
        """Return the block with the outputs of its linear maps given, in the order of ``outputs``.

        It runs once: each output is let go as it is read.

        Args:
            outputs: (N, T, out) each, for the rows that will run.
        """
        return self._view([Passing()] * len(self.parts), [GivenOnce(output) for output in outputs])

    def overwritten(self, outputs: Sequence[Tensor], at: Tensor) -> nn.Module:
        """Return the block with known outputs, but those of some tokens computed anew.

        Args:
            outputs: (T, out) each, T tokens in one row; overwritten at those tokens.
            at: int64 (n,): the tokens whose input has changed.
        """
        norms = [_SomeNorm(norm, at) for norm, _ in self.parts]
        maps = [
            (norm, projection)
            for norm, (_, projections) in zip(norms, self.parts, strict=True)
            for projection in projections
        ]
        stand_ins = [
            _SomeProjection(norm, projection, output)
            for (norm, projection), output in zip(maps, outputs, strict=True)
        ]
        return self._view(norms, stand_ins)

    def _view(self, norms: Sequence[nn.Module], projections: Sequence[nn.Module]) -> nn.Module:
        """Return the block with other modules at its entry."""
        waiting = iter(projections)
        replaced = {}
        for norm, (path, paths) in zip(norms, self._paths, strict=True):
            replaced[path] = norm
            replaced.update({projection: next(waiting) for projection in paths})
        return with_modules(self.block, replaced)


class _SomeNorm(nn.Module):
    """A norm of some tokens, kept for the maps that read it; its input passes."""

    def __init__(self, norm: nn.Module, at: Tensor) -> None:
        super().__init__()
        self.norm = norm
        self.at = at
        self.normed: Tensor | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        self.normed = self.norm(hidden[0, self.at])
        return hidden


class _SomeProjection(nn.Module):
    """A linear map of the tokens that a norm has kept, among known outputs."""

    def __init__(self, norm: _SomeNorm, projection: nn.Module, output: Tensor) -> None:
        super().__init__()
        self.norm = norm
        self.projection = projection
        self.output = output

    def forward(self, _: Tensor) -> Tensor:
        return overwrite(self.output, self.projection(self.norm.normed), self.norm.at)[None]


def overwrite(rows: Tensor, new: Tensor, at: Tensor) -> Tensor:
    """Return rows (T, C), which take no gradient, with some overwritten in place; differentiable.

    A later call may overwrite them again once the gradient of this one has been taken.

    Args:
        rows: (T, C).
        new: (n, C).
        at: int64 (n,).
    """
    whole: Tensor = _Overwritten.apply(rows.detach(), new, at)  # type: ignore[no-untyped-call]
    return whole


class _Overwritten(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, new: Tensor, at: Tensor) -> Tensor:
        ctx.mark_dirty(rows)
        ctx.save_for_backward(at)
        rows[at] = new
        return rows

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        (at,) = ctx.saved_tensors
        return None, gradient[at], None
