"""Attention of live tokens over left contexts that stay as they are.

In every pass of v* a few live tokens look at many tokens on their left whose keys and values never
change. The usual kernel wants both in one tensor: it copies the left ones in each pass and works
out gradients for them that nobody reads. Here the scores of both parts are computed apart and put
through one softmax: the same numbers, a third of the time on a CPU.

Registered with transformers' attention interface and used inside ``attending`` only; families
whose attention does not go through that interface (GPT-J, GPT-Neo) take the usual way.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import eager_mask

from editcollapse.models import LoadedModel
from editcollapse.stand_ins import EnoughIsKnown

_NAME = "editcollapse_left"
_pass: ContextVar["_Pass"] = ContextVar("the pass that runs")


def splits_attention(loaded: LoadedModel) -> bool:
    """Return whether a family's attention goes through transformers' interface."""
    return bool(getattr(loaded.model, "_supports_attention_backend", False))


class _FixedLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped
    """A left context in one block; what a pass adds is handed back and not kept."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(key, value)
        self.keys, self.values = key, value

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        return key_states, value_states


class LeftCache(DynamicCache):  # type: ignore[misc]  # transformers is untyped
    """Keys and values of left contexts, one entry a block, that no pass changes.

    Args:
        pairs: of each block, (N, H, left, d).
    """

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.layers = [_FixedLayer(key, value) for key, value in pairs]


@dataclasses.dataclass(slots=True, eq=False)
class LastBlock:
    """The last block's attention, taken in two steps: only some of its outputs are ever read.

    First every live token leaves its key and value, and the forward stops there; then the block
    runs for the tokens that are read, on those keys and values.
    """

    at: Tensor
    """int64 (N, M): live tokens that are read."""
    key: Tensor | None = None
    value: Tensor | None = None
    mask: Tensor | None = None

    def keep(self, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
        """Keep what the live tokens leave, with the mask of the tokens that are read."""
        self.key, self.value = key, value
        if mask is not None:
            rows = self.at[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
            self.mask = mask.gather(2, rows)


@dataclasses.dataclass(frozen=True, slots=True)
class _Pass:
    left: LeftCache
    last: LastBlock | None


@contextmanager
def attending(
    loaded: LoadedModel, left: LeftCache, last: LastBlock | None = None
) -> Iterator[None]:
    """Make the model's blocks attend over left contexts apart, while the block runs.

    Args:
        loaded: a model for which ``splits_attention`` holds.
        left: of every block.
        last: how the last block is to be taken; None for like the others.
    """
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, eager_mask)
    config: Any = loaded.model.config
    usual = config._attn_implementation  # noqa: SLF001  transformers has no public name for it
    token = _pass.set(_Pass(left, last))
    config._attn_implementation = _NAME  # noqa: SLF001
    try:
        yield
    finally:
        config._attn_implementation = usual  # noqa: SLF001
        _pass.reset(token)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return attention of T live tokens over left contexts and themselves, (N, T, H, d).

    Args:
        module: a block's attention; its ``layer_idx`` chooses the left context.
        query: (N, H, T, d).
        key: of the live tokens, (N, G, T, d), G heads shared by H / G queries each.
        value: likewise.
        attention_mask: added to the scores, (N, 1, T, left + T).
        scaling: of the scores; one over the root of d where None.
        softcap: bound of the scores (Gemma 2).
    """
    now = _pass.get()
    index = int(module.layer_idx)  # type: ignore[arg-type]  # a number, whatever torch says
    layer = now.left.layers[index]
    if now.last is not None and index == len(now.left.layers) - 1:
        if now.last.key is None or now.last.value is None:
            now.last.keep(key, value, attention_mask)
            raise EnoughIsKnown
        key, value, attention_mask = now.last.key, now.last.value, now.last.mask
    n_rows, n_heads, n_queries, width = query.shape
    n_groups, n_left = key.shape[1], layer.keys.shape[2]
    # (N, G, H/G · T, d): the queries that share a key head are rows of one product.
    queries = query.reshape(n_rows, n_groups, -1, width)
    scores = torch.cat([queries @ layer.keys.mT, queries @ key.mT], dim=-1)
    scores = scores * (width**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        by_head = scores.view(n_rows, n_groups, -1, n_queries, scores.shape[-1])
        scores = (by_head + attention_mask[:, :, None]).view_as(scores)
    wide = torch.float64 if scores.dtype == torch.float64 else torch.float32
    shares = torch.softmax(scores, dim=-1, dtype=wide).to(value.dtype)
    found = shares[..., :n_left] @ layer.values + shares[..., n_left:] @ value
    return found.view(n_rows, n_heads, n_queries, width).transpose(1, 2).contiguous(), None
