"""Keys of several layers from one forward that ends at the highest of them.

The forward runs the decoder's own code on a view of the model: a copy of the modules on the way
to each down projection, with a recorder in the projection's place. The resident model is never
changed, so that readers in several threads do not meet. Right padding needs no mask
(``tokens.pad_right``), so the fast attention kernel runs.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from editcollapse.models import LoadedModel
from editcollapse.stand_ins import EnoughIsKnown


class _Recorder(nn.Module):
    """A down projection that keeps its input: it runs as ever, or ends the forward."""

    def __init__(self, projection: nn.Module, *, is_highest: bool) -> None:
        super().__init__()
        self.projection = projection
        self.is_highest = is_highest
        self.key: Tensor | None = None

    def forward(self, key: Tensor) -> Tensor:
        self.key = key
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
        self._view = loaded.decoder
        architecture = loaded.architecture
        for layer, recorder in zip(self.layers, self._recorders, strict=True):
            path = f"{architecture.blocks}.{layer}.{architecture.down_projection}"
            self._view = _with_module(self._view, path.split("."), recorder)

    @torch.no_grad()
    def read(self, ids: Tensor) -> tuple[Tensor, ...]:
        """Return the keys of every token, one (N, T, K) for each layer, dtype of the weights.

        Args:
            ids: int64 (N, T), padded on the right.
        """
        try:
            self._view(input_ids=ids, use_cache=False)
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


def _with_module(module: nn.Module, path: Sequence[str], replacement: nn.Module) -> nn.Module:
    """Return a view of a module with another one at the end of a path; nothing else is copied."""
    head, *rest = path
    inner = module._modules[head]  # noqa: SLF001  torch names no public table
    assert inner is not None
    view = copy.copy(module)
    view.__dict__["_modules"] = dict(module._modules)  # noqa: SLF001  the view's own table
    view._modules[head] = _with_module(inner, rest, replacement) if rest else replacement  # noqa: SLF001
    return view
