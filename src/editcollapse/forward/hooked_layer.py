"""The hooked layer: blocks up to the edited one run once, those above it many times.

An edit changes the value of one block's down projection and nothing before it. ``HookedLayer.read``
runs the blocks up to that one and keeps key, value and residual stream; ``continue_from`` runs the
blocks above. Both run the decoder's own code on a view whose other blocks are replaced, so every
mask, position and norm is the family's, and the resident model is never changed. Right padding and
causal attention make a padding mask unnecessary (``tokenization.pad_right``).

The block above begins with a norm of its input and the linear maps that alone read it: queries,
keys and values, and the MLP's first matrix where attention and MLP run in parallel. An edit changes
that input by something simple, so most of those products need no second computation:

- v* moves one token of a row; for all others they are as they were (``overwritten``);
- an edited model moves every token along one direction, and a linear map of a sum is a sum
  (``edited_model.RankOneInput``).
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from editcollapse.forward.module_views import (
    Given,
    GivenOnce,
    Passing,
    Recorder,
    Replay,
    StopForward,
    stopped_at,
    watch_projection,
    with_modules,
)
from editcollapse.models.loading import LoadedModel


class BlockInput:
    """The input of one block: its first norms and the linear maps that read them.

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
        self._paths = [(each.norm, each.projections) for each in loaded.input_norms]
        self.parts = [
            (
                nn.Identity() if norm is None else self.block.get_submodule(norm),
                [self.block.get_submodule(path) for path in paths],
            )
            for norm, paths in self._paths
        ]
        """Each norm, or ``torch.nn.Identity`` for none, with the linear maps that read it."""

    @torch.no_grad()
    def outputs(self, residual: Tensor) -> list[Tensor]:
        """Return the outputs of every linear map for some tokens, (..., out) each.

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
            (None if path is None else norm, projection)
            for norm, (path, _), (_, projections) in zip(
                norms, self._paths, self.parts, strict=True
            )
            for projection in projections
        ]
        projection_views = [
            _SomeProjection(norm, projection, output, at)
            for (norm, projection), output in zip(maps, outputs, strict=True)
        ]
        return self._view(norms, projection_views)

    def _view(self, norms: Sequence[nn.Module], projections: Sequence[nn.Module]) -> nn.Module:
        """Return a view of the block with other modules at its input."""
        waiting = iter(projections)
        replaced = {}
        for norm, (path, paths) in zip(norms, self._paths, strict=True):
            if path is not None:
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
    """A linear map of some tokens, which a norm has kept if there is one, among known outputs."""

    def __init__(
        self, norm: _SomeNorm | None, projection: nn.Module, output: Tensor, at: Tensor
    ) -> None:
        super().__init__()
        self.norm = norm
        self.projection = projection
        self.output = output
        self.at = at

    def forward(self, hidden: Tensor) -> Tensor:
        rows = hidden[0, self.at] if self.norm is None else self.norm.normed
        return overwrite(self.output, self.projection(rows), self.at)[None]


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


@dataclasses.dataclass(frozen=True, slots=True)
class LayerStates:
    """Residual, key and value at the edited layer after one forward, N rows of T tokens."""

    residual: Tensor
    """Residual stream after the block, (N, T, D), dtype of the weights."""
    key: Tensor
    """Input of the down projection, (N, T, K), dtype of the weights."""
    value: Tensor
    """Output of the down projection, bias included, (N, T, D), dtype of the weights."""

    def rows(self, index: Tensor | slice) -> "LayerStates":
        """Return some of the rows."""
        return LayerStates(self.residual[index], self.key[index], self.value[index])


@dataclasses.dataclass(frozen=True, slots=True)
class PrefixCache:
    """Prefix KV cache of N rows, padded on the left: keys and values before the tokens that run."""

    positions: Tensor | None
    """int64 (N, T): of the tokens that run; None where they start at 0."""
    mask: Tensor | None
    """int64 (N, left + T): 0 where a cached token is padding; None without padding."""
    cache: Any
    """Keys and values of the tokens on the left by block, or an empty cache to be filled."""


_tuples: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Whether a model's blocks return tuples."""

Site = Literal["value", "block output"]
"""Where a change is added: to the output of the down projection, as ROME does, or to the residual
stream after the block, as MEMIT does."""


class HookedLayer:
    """One layer of one model, hooked: read its key, value and residual, run on from there.

    Args:
        loaded: the model; its weights stay as they are.
        layer: zero-based block.
        site: what ``add_to_value`` adds to, and ``target`` reads.

    Raises:
        ModelError: the model has no such layer.
    """

    def __init__(self, loaded: LoadedModel, layer: int, site: Site = "value") -> None:
        self.loaded = loaded
        self.layer = layer
        self.site = site
        self.projection = loaded.down_projection(layer)
        self._as_tuple = self._returns_tuples()

    @torch.no_grad()
    def read(self, ids: Tensor, prefix: "PrefixCache | None" = None) -> LayerStates:
        """Return key, value and residual of every token at this layer; the blocks above do not run.

        Args:
            ids: int64 (N, T), padded on the right.
            prefix: of the blocks up to this one, where the rows do not start at their first token.
        """
        blocks = list(self.loaded.blocks)
        recorder = Recorder(blocks[self.layer])
        with watch_projection(self.projection, ids.shape) as seen:
            self._run([*blocks[: self.layer], recorder, *self._passing(above=True)], ids, prefix)
        assert recorder.residual is not None
        return LayerStates(recorder.residual, seen.key, seen.value)

    @torch.no_grad()
    def read_key(self, ids: Tensor, prefix: "PrefixCache | None" = None) -> Tensor:
        """Return the key of every token, (N, T, K), dtype of the weights; nothing after it runs.

        Args:
            ids: int64 (N, T), padded on the right.
            prefix: of the blocks up to this one, where the rows do not start at their first token.
        """
        with stopped_at(self.projection, ids.shape) as seen:
            self._run(list(self.loaded.blocks), ids, prefix)
        return seen.key

    @torch.no_grad()
    def context(self, ids: Tensor, *, above: bool) -> list[tuple[Tensor, Tensor]]:
        """Return the keys and values (N, H, T, d) that attention keeps of whole rows.

        Args:
            ids: int64 (N, T), padded on the right.
            above: all blocks run; without it, those up to the edited one.
        """
        blocks = list(self.loaded.blocks)
        if not above:
            blocks = [*blocks[: self.layer + 1], *self._passing(above=True)]
        cache = DynamicCache()
        self._run(blocks, ids, PrefixCache(None, None, cache))
        return [(layer.keys, layer.values) for layer in cache.layers]

    def continue_from(
        self,
        residual: Tensor,
        prefix: "PrefixCache | None" = None,
        next_block: nn.Module | None = None,
    ) -> Tensor:
        """Return the states after the final norm, (N, T, D), given the residual after this layer.

        Differentiable in ``residual``.

        Args:
            residual: (N, T, D), dtype of the weights.
            prefix: of the blocks above, where the rows do not start at their first token.
            next_block: the block above this layer, where it runs another way (``BlockInput``).
        """
        above = list(self.loaded.blocks)[self.layer + 1 :]
        if next_block is not None:
            above[0] = next_block
        start = Replay(residual, as_tuple=self._as_tuple)
        return self._run([*self._passing(above=False), start, *above], residual, prefix)

    def last_input(self, residual: Tensor, prefix: "PrefixCache", next_block: nn.Module) -> Tensor:
        """Return the input of the last block, (N, T, D), given the residual after this layer.

        The last block runs until something raises ``StopForward``; differentiable in
        ``residual``.

        Args:
            residual: (N, T, D), dtype of the weights.
            prefix: of the blocks above.
            next_block: the block above this layer (``BlockInput``).
        """
        seen: list[Tensor] = []
        blocks = list(self.loaded.blocks)

        def keep(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            seen.append(args[0] if args else kwargs["hidden_states"])

        handle = blocks[-1].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            self.continue_from(residual, prefix, next_block)
        except StopForward:
            pass
        finally:
            handle.remove()
        return seen[0]

    def last_from(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Return the states after the final norm, (N, T, D), given the input of the last block.

        Args:
            hidden: (N, T, D), dtype of the weights.
            positions: int64 (N, T).
        """
        blocks = list(self.loaded.blocks)
        passing = [Replay(None, as_tuple=self._as_tuple) for _ in blocks[:-2]]
        start = Replay(hidden, as_tuple=self._as_tuple)
        return self._run([*passing, start, blocks[-1]], hidden, PrefixCache(positions, None, None))

    def add_to_value(self, residual: Tensor, value: Tensor | None, change: Tensor) -> Tensor:
        """Return the residual after this layer when its value is changed, (N, T, D).

        Args:
            residual: unedited, (N, T, D).
            value: unedited, (N, T, D); only read where the family has a norm behind it
                (``reads_value``).
            change: what is added to the value, (N, T, D), float32 or better.
        """
        name = self.loaded.architecture.post_mlp_norm
        if self.site == "block output":
            return residual + change.to(residual.dtype)
        if name is None:
            return residual + self.in_stream(change).to(residual.dtype)
        assert value is not None
        norm = self.loaded.blocks[self.layer].get_submodule(name)
        edited: Tensor = norm(value + change.to(value.dtype))
        unedited: Tensor = norm(value)
        return residual - unedited + edited

    def in_stream(self, change: Tensor) -> Tensor:
        """Return what a change of the value is in the residual stream, but for a norm between."""
        factor = self.loaded.value_multiplier
        return change if factor == 1 else change * factor

    @cached_property
    def block_input(self) -> BlockInput:
        """The input of the block above this layer; there is one unless this is the last."""
        return BlockInput(self.loaded, self.layer + 1)

    @property
    def reads_value(self) -> bool:
        """Whether ``add_to_value`` needs the unedited value."""
        return self.site == "value" and self.loaded.architecture.post_mlp_norm is not None

    def target(self, states: "LayerStates") -> Tensor:
        """Return what a target value replaces: the value, or the block's output; (N, T, D)."""
        return states.value if self.site == "value" else states.residual

    @property
    def n_above(self) -> int:
        """Blocks above the edited one."""
        return len(self.loaded.blocks) - self.layer - 1

    def _passing(self, *, above: bool) -> list[nn.Module]:
        """Return views of the blocks on one side that cost nothing and pass their input on."""
        count = self.n_above if above else self.layer
        return [Replay(None, as_tuple=self._as_tuple) for _ in range(count)]

    def _returns_tuples(self) -> bool:
        """Return whether a block of this family returns a tuple: run one token to see, once."""
        known = _tuples.get(self.loaded.model)
        if known is None:
            known = _tuples[self.loaded.model] = self._seen_tuples()
        return known

    def _seen_tuples(self) -> bool:
        recorder = Recorder(self.loaded.blocks[0])
        ids = torch.zeros((1, 1), dtype=torch.int64, device=self.loaded.device)
        with torch.no_grad():
            self._run([recorder, *list(self.loaded.blocks)[1:]], ids)
        return recorder.as_tuple

    def _run(
        self, blocks: list[nn.Module], tokens: Tensor, prefix: "PrefixCache | None" = None
    ) -> Tensor:
        """Run a view of the decoder with other blocks; return its last hidden state.

        Args:
            blocks: as many as the decoder has.
            tokens: int64 ids (N, T); or, where the first blocks only hand on, states (N, T, D),
                of which the embedding is not worked out.
            prefix: cache of the tokens before these.
        """
        decoder, row = self.loaded.decoder, self.loaded.architecture
        replaced: dict[str, nn.Module] = {row.blocks: nn.ModuleList(blocks)}
        source = {"input_ids": tokens}
        if tokens.is_floating_point():
            source = {"inputs_embeds": tokens.detach()}
            if row.position_embedding is not None:
                replaced[row.position_embedding] = Given(tokens.new_zeros(1, 1, 1))
        prefix = prefix or PrefixCache(None, None, None)
        output = with_modules(decoder, replaced)(
            **source,
            position_ids=prefix.positions,
            attention_mask=prefix.mask,
            past_key_values=prefix.cache,
            use_cache=prefix.cache is not None,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden
