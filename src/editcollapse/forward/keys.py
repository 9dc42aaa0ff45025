"""Keys of many rewrites and layers without any optimisation: all that denominators need.

A key depends on the tokens up to the subject's last one and on the blocks up to the edited one.
So nothing to the right of a subject runs, the forward stops at the highest layer that is read, and
what the rows share of their context templates runs once (``prefix_cache``). The forward runs the
decoder's own code on a view of the model with a recorder in each down projection's place: the
resident model is never changed, so that readers in several threads do not meet.

Source: kmeng01/rome compute_u, which runs every context whole through the whole model.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from editcollapse.forward.batching import length_batches
from editcollapse.forward.hooked_layer import HookedLayer, PrefixCache
from editcollapse.forward.module_views import StopForward, with_modules
from editcollapse.forward.prefix_cache import SharedContexts, Tails
from editcollapse.forward.rewrites import Rewrite
from editcollapse.models.loading import LoadedModel, widened


class _Recorder(nn.Module):
    """A down projection that keeps its input: it runs as ever, or ends the forward."""

    def __init__(self, projection: nn.Module, *, is_highest: bool) -> None:
        super().__init__()
        self.projection = projection
        self.is_highest = is_highest
        self.rows = torch.Size()
        """N, T of the forward."""
        self.ends: Tensor | None = None
        """int64 (N,): the one token of each row whose key is kept; None keeps all."""
        self.key: Tensor | None = None

    def forward(self, key: Tensor) -> Tensor:
        self.key = key.view(*self.rows, -1)
        if self.ends is not None:
            self.key = self.key[torch.arange(len(self.ends), device=key.device), self.ends]
        if self.is_highest:
            raise StopForward
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
        paths = map(loaded.architecture.down_projection_in_decoder, self.layers)
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
        self, ids: Tensor, ends: Tensor, prefix: PrefixCache | None = None
    ) -> tuple[Tensor, ...]:
        """Return the key of one token of each row, one (N, K) for each layer; others are not kept.

        Args:
            ids: int64 (N, T), padded on the right.
            ends: int64 (N,): the token of each row.
            prefix: of the blocks up to the highest layer, where the rows do not start at their
                first token.
        """
        return self._run(ids, ends, prefix)

    def _run(
        self, ids: Tensor, ends: Tensor | None, prefix: PrefixCache | None
    ) -> tuple[Tensor, ...]:
        for recorder in self._recorders:
            recorder.ends, recorder.rows = ends, ids.shape
        prefix = prefix or PrefixCache(None, None, None)
        try:
            self._view(
                input_ids=ids,
                position_ids=prefix.positions,
                attention_mask=prefix.mask,
                past_key_values=prefix.cache,
                use_cache=prefix.cache is not None,
            )
        except StopForward:
            pass
        else:
            raise AssertionError("the highest layer's down projection did not run")
        keys = []
        for recorder in self._recorders:
            assert recorder.key is not None
            keys.append(recorder.key)
            recorder.key = None
        return tuple(keys)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PromptKeys:
    """Keys of B rewrites; float32 (float64 for a float64 model), on the model's device."""

    prompt_keys: Tensor
    """(B, P, K): key at the subject's last token in every context, the bare prompt first."""

    @property
    def bare_key(self) -> Tensor:
        """k0, (B, K)."""
        return self.prompt_keys[:, 0]

    @property
    def prefixed_key(self) -> Tensor:
        """kbar, (B, K): mean over all contexts, the bare one included."""
        return self.prompt_keys.mean(dim=1)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RewriteKeys(PromptKeys):
    """Keys of rewrites, as ``read_keys`` reads them."""

    bare_value: Tensor
    """(B, D): v0, the bare prompt's value there."""


@torch.no_grad()
def read_keys(
    hooked: HookedLayer, rewrites: Sequence[Rewrite], tokens_per_forward: int = 4096
) -> RewriteKeys:
    """Return the keys of B rewrites that share their context templates, and their bare values.

    Args:
        hooked: the edited layer.
        rewrites: B of them.
        tokens_per_forward: tokens in one forward at most; a shared token counts too.
    """
    n_prompts = len(rewrites[0].prompts)
    keys: Tensor | None = None
    for index, tails, ends in subject_tails(hooked, rewrites, tokens_per_forward):
        found = hooked.read_key(tails.ids, tails.prefix())
        found = widened(found[torch.arange(len(index), device=index.device), ends])
        if keys is None:
            keys = found.new_empty((len(rewrites) * n_prompts, found.shape[1]))
        keys[index] = found
    assert keys is not None
    by_edit = keys.view(len(rewrites), n_prompts, keys.shape[1])
    bare = by_edit[:, 0].to(hooked.loaded.dtype)
    return RewriteKeys(by_edit, widened(hooked.projection(bare)))


def subject_tails(
    hooked: HookedLayer, rewrites: Sequence[Rewrite], tokens_per_forward: int
) -> Iterator[tuple[Tensor, Tails, Tensor]]:
    """Yield the rows that run together to read keys, up to their subjects' last tokens.

    Each group is the rows' int64 (N,) indices among all rewrites' prompts, rewrite by rewrite;
    their tokens behind the shared contexts; and int64 (N,), where among these each subject's last
    one is.

    Args:
        hooked: the highest layer that is read.
        rewrites: B of them, which share their context templates.
        tokens_per_forward: tokens in one forward at most; a shared token counts too.
    """
    device = hooked.loaded.device
    prompts = [prompt for rewrite in rewrites for prompt in rewrite.prompts]
    rows = [prompt.ids[: prompt.subject_last + 1] for prompt in prompts]
    where = [prompt.subject_last for prompt in prompts]
    shared = SharedContexts(hooked, rows, where, len(rewrites[0].prompts), above=False)
    sizes = shared.sizes(torch.arange(len(rows), device=device)).tolist()
    own = [len(row) - size for row, size in zip(rows, sizes, strict=True)]
    for chosen in length_batches([size + shared.width for size in own], tokens_per_forward):
        index = torch.tensor(chosen, device=device)
        tails = Tails(hooked, shared, [rows[n] for n in chosen], index)
        yield index, tails, torch.tensor([own[n] - 1 for n in chosen], device=device)
