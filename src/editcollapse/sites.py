"""The edited layer as a seam: run the blocks up to it once, and those above it many times.

An edit changes the value of one block's down projection and nothing before it. ``read_site`` runs
the blocks up to that one and keeps key, value and residual stream; ``continue_from`` runs the
blocks above. Both run the decoder's own code on a view whose other blocks are replaced, so every
mask, position and norm is the family's, and the resident model is never changed.

Right padding and causal attention make a padding mask unnecessary (``tokens.pad_right``).
"""

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from editcollapse.models import LoadedModel


@dataclasses.dataclass(frozen=True, slots=True)
class SiteStates:
    """What one forward leaves at the edited layer, for N rows of T tokens."""

    ids: Tensor
    """int64 (N, T)."""
    residual: Tensor
    """Residual stream after the block, (N, T, D), dtype of the weights."""
    key: Tensor
    """Input of the down projection, (N, T, K), dtype of the weights."""
    value: Tensor
    """Output of the down projection, bias included, (N, T, D), dtype of the weights."""

    def rows(self, index: Tensor | slice) -> "SiteStates":
        """Return some of the rows."""
        return SiteStates(self.ids[index], self.residual[index], self.key[index], self.value[index])


class _Replay(nn.Module):
    """A block that returns what it was given: the stored residual, or its own input."""

    def __init__(self, residual: Tensor | None, *, as_tuple: bool) -> None:
        super().__init__()
        self.residual = residual
        self.as_tuple = as_tuple

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        out = hidden_states if self.residual is None else self.residual
        return (out, None) if self.as_tuple else out


class _Recorder(nn.Module):
    """A block that runs as ever and keeps its output."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.residual: Tensor | None = None
        self.as_tuple = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.block(*args, **kwargs)
        self.as_tuple = isinstance(output, tuple)
        self.residual = output[0] if self.as_tuple else output
        return output


class EditSite:
    """One layer of one model.

    Args:
        loaded: the model; its weights stay as they are.
        layer: zero-based block.

    Raises:
        ModelError: the model has no such layer.
    """

    def __init__(self, loaded: LoadedModel, layer: int) -> None:
        self.loaded = loaded
        self.layer = layer
        self.projection = loaded.down_projection(layer)
        self._as_tuple = self._returns_tuples()

    @torch.no_grad()
    def read(self, ids: Tensor) -> SiteStates:
        """Return key, value and residual of every token at this layer; the blocks above do not run.

        Args:
            ids: int64 (N, T), padded on the right.
        """
        blocks = list(self.loaded.blocks)
        recorder = _Recorder(blocks[self.layer])
        # Blocks above cost nothing, but must hand on what the decoder expects of a block.
        above = [_Replay(None, as_tuple=self._as_tuple) for _ in blocks[self.layer + 1 :]]
        with watch_projection(self.projection) as seen:
            self._run([*blocks[: self.layer], recorder, *above], ids)
        assert recorder.residual is not None
        return SiteStates(ids, recorder.residual, seen.key, seen.value)

    def continue_from(
        self,
        ids: Tensor,
        residual: Tensor,
        positions: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Return the states after the final norm, (N, T, D), given the residual after this layer.

        Differentiable in ``residual``.

        Args:
            ids: int64 (N, T); only their number matters to the blocks above.
            residual: (N, T, D), dtype of the weights.
            positions: int64 (N, T): of the tokens, where they do not start at 0.
            mask: int64 (N, left + T): 0 where a cached token is padding.
            cache: keys and values of a left context, or an empty one to be filled.
        """
        blocks = list(self.loaded.blocks)
        below = [_Replay(None, as_tuple=self._as_tuple) for _ in blocks[: self.layer]]
        start = _Replay(residual, as_tuple=self._as_tuple)
        return self._run(
            [*below, start, *blocks[self.layer + 1 :]],
            ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
        )

    def add_to_value(self, states: SiteStates, change: Tensor) -> Tensor:
        """Return the residual after this layer when its value is changed, (N, T, D).

        Args:
            states: the unedited states of N rows.
            change: what is added to the value, (N, T, D), float32 or better.
        """
        name = self.loaded.architecture.post_mlp_norm
        if name is None:
            return states.residual + change.to(states.residual.dtype)
        norm = self.loaded.blocks[self.layer].get_submodule(name)
        edited: Tensor = norm(states.value + change.to(states.value.dtype))
        unedited: Tensor = norm(states.value)
        return states.residual - unedited + edited

    def _returns_tuples(self) -> bool:
        """Return whether a block of this family returns a tuple: run one token to see."""
        recorder = _Recorder(self.loaded.blocks[0])
        ids = torch.zeros((1, 1), dtype=torch.int64, device=self.loaded.device)
        with torch.no_grad():
            self._run([recorder, *list(self.loaded.blocks)[1:]], ids)
        return recorder.as_tuple

    def _run(self, blocks: list[nn.Module], ids: Tensor, **given: Any) -> Tensor:
        """Run a view of the decoder with other blocks; return its last hidden state."""
        decoder = self.loaded.decoder
        view = copy.copy(decoder)
        view.__dict__["_modules"] = dict(decoder._modules)  # noqa: SLF001  the view's own table
        view._modules[self.loaded.architecture.blocks] = nn.ModuleList(blocks)  # noqa: SLF001
        output = view(input_ids=ids, **{"use_cache": False, **given})
        hidden: Tensor = output.last_hidden_state
        return hidden


@dataclasses.dataclass(slots=True)
class SeenProjection:
    """Input and output of a down projection during the last forward."""

    key: Tensor = dataclasses.field(default_factory=lambda: torch.empty(0))
    value: Tensor = dataclasses.field(default_factory=lambda: torch.empty(0))


@contextmanager
def watch_projection(projection: nn.Module) -> Iterator[SeenProjection]:
    """Keep what goes in and out of a projection while the block runs; always removes its hook."""
    seen = SeenProjection()

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.key, seen.value = inputs[0], output

    handle = projection.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
