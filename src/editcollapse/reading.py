"""Keys of several layers from one forward that ends at the highest of them.

The forward runs the decoder's own code on a view of the model: a copy of the modules on the way
to each down projection, with a recorder in the projection's place. The resident model is never
changed, so that readers in several threads do not meet. Right padding needs no mask
(``tokens.pad_right``), so the fast attention kernel runs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from editcollapse.models import LoadedModel
from editcollapse.sites import LeftContext
from editcollapse.stand_ins import EnoughIsKnown, with_modules


class _Recorder(nn.Module):
    """A down projection that keeps its input: it runs as ever, or ends the forward."""

    def __init__(self, projection: nn.Module, *, is_highest: bool) -> None:
        super().__init__()
        self.projection = projection
        self.is_highest = is_highest
        self.ends: Tensor | None = None
        """int64 (N,): the one token of each row whose key is kept; None keeps all."""
        self.key: Tensor | None = None

    def forward(self, key: Tensor) -> Tensor:
        self.key = key
        if self.ends is not None:
            self.key = key[torch.arange(len(key), device=key.device), self.ends]
        if self.is_highest:
            raise EnoughIsKnown
        value: Tensor = self.projection(key)
        return value


class KeyReader:
    """Reads the keys of some layers of one model; for one thread.

    Args:
        loaded: the model; it stays as it is.
        layers: zero-based blocks, each once, in any order.

    Raises:
        ModelError: the model has no such layer.
    """

    def __init__(self, loaded: LoadedModel, layers: Sequence[int]) -> None:
        self.loaded = loaded
        self.layers = tuple(layers)
        highest = max(layers)
        self._recorders = [
            _Recorder(loaded.down_projection(layer), is_highest=layer == highest)
            for layer in layers
        ]
        row = loaded.architecture
        paths = [f"{row.blocks}.{layer}.{row.down_projection}" for layer in self.layers]
        recorders = dict(zip(paths, self._recorders, strict=True))
        self._view = with_modules(loaded.decoder, recorders)

    @torch.no_grad()
    def read(self, ids: Tensor) -> tuple[Tensor, ...]:
        """Return the keys of every token, one (N, T, K) for each layer, dtype of the weights.

        Args:
            ids: int64 (N, T), padded on the right.
        """
        return self._run(ids, None, None)

    @torch.no_grad()
    def read_ends(
        self, ids: Tensor, ends: Tensor, left: LeftContext | None = None
    ) -> tuple[Tensor, ...]:
        """Return the key of one token of each row, one (N, K) for each layer; others are not kept.

        Args:
            ids: int64 (N, T), padded on the right.
            ends: int64 (N,): the token of each row.
            left: of the blocks up to the highest layer, where the rows do not start at their first
                token.
        """
        return self._run(ids, ends, left)

    def _run(
        self, ids: Tensor, ends: Tensor | None, left: LeftContext | None
    ) -> tuple[Tensor, ...]:
        for recorder in self._recorders:
            recorder.ends = ends
        left = left or LeftContext(None, None, None)
        try:
            self._view(
                input_ids=ids,
                position_ids=left.positions,
                attention_mask=left.mask,
                past_key_values=left.cache,
                use_cache=left.cache is not None,
            )
        except EnoughIsKnown:
            pass
        else:
            raise AssertionError("the highest layer's down projection did not run")
        keys = []
        for recorder in self._recorders:
            assert recorder.key is not None
            keys.append(recorder.key)
            recorder.key = None
        return tuple(keys)
