"""Attention of live tokens, segment by segment, over left contexts that stay as they are.

In every pass of v* a few live tokens look at many tokens on their left whose keys and values never
change. The usual kernel wants rows of one length, and everything of a row in one tensor: it copies
what is on the left in each pass and works out gradients for it that nobody reads. Here all rows of
a batch are one flat list of tokens (``segments``), so that norms and products run once for all and
nothing is padded. Only attention knows of rows (``segment_attention``).

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
from transformers import AttentionInterface

from editcollapse.models import LoadedModel
from editcollapse.segment_attention import AttentionRule, Pair, SegmentKeys, attend
from editcollapse.segments import Segment
from editcollapse.stand_ins import EnoughIsKnown

_NAME = "editcollapse_segments"
_pass: ContextVar["_Pass"] = ContextVar("the pass that runs")


def splits_attention(loaded: LoadedModel) -> bool:
    """Return whether a family's attention goes through transformers' interface."""
    return bool(getattr(loaded.model, "_supports_attention_backend", False))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SegmentLeft:
    """What stands left of the live tokens of a segment, and where everything stands.

    G key heads; L tokens of the longest shared prefix and O of the longest own left context, both
    padded on the left. Positions of padding are negative.
    """

    segment: Segment
    shared: list[Pair]
    """Of each block above the edited one: (S, G, L, d); empty for families with other attention."""
    near: list[Pair]
    """Of each block above the edited one: (S, G, E, O + W, d); the live part waits for a pass.
    Empty likewise."""
    shared_positions: Tensor
    """int64 (S, L)."""
    own_positions: Tensor
    """int64 (S, E, O)."""
    positions: Tensor
    """int64 (S, E, W): of the live tokens."""
    _masks: dict[tuple[int | None, int, torch.dtype], Tensor] = dataclasses.field(
        default_factory=dict
    )

    def keys(self, block: int) -> SegmentKeys:
        """Return what one block looks at, counted from the first above the edited one."""
        return SegmentKeys(self.segment, self.shared[block], self.near[block])

    def without_keys(self) -> "SegmentLeft":
        """Return it without keys and values: only how the segment lies."""
        return dataclasses.replace(self, shared=[], near=[])

    def some(self, is_kept: Tensor) -> "SegmentLeft":
        """Return the left context of some of the segment's edits, bool (E,)."""
        return SegmentLeft(
            segment=self.segment.some(is_kept),
            shared=self.shared,
            near=[(key[:, :, is_kept], value[:, :, is_kept]) for key, value in self.near],
            shared_positions=self.shared_positions,
            own_positions=self.own_positions[:, is_kept],
            positions=self.positions[:, is_kept],
        )

    def mask(self, window: int | None, n_queries: int, dtype: torch.dtype) -> Tensor:
        """Return what is added to the scores, (S, 1, E, 1, n, L + O + W).

        Args:
            window: of sliding attention; None without.
            n_queries: n, the last tokens of each row.
            dtype: of the scores.
        """
        known = (window, n_queries, dtype)
        if known not in self._masks:
            n_edits = len(self.segment.edits)
            shared = self.shared_positions[:, None].expand(-1, n_edits, -1)
            keys = torch.cat([shared, self.own_positions, self.positions], dim=2)[:, :, None]
            queries = self.positions[:, :, -n_queries:, None]
            seen = (keys >= 0) & (keys <= queries)
            if window is not None:
                seen &= queries - keys < window
            mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            mask.masked_fill_(~seen, torch.finfo(dtype).min)
            self._masks[known] = mask[:, None, :, None]
        return self._masks[known]


@dataclasses.dataclass(slots=True, eq=False)
class LastBlock:
    """The last block's attention, taken in two steps: only some of its outputs are ever read.

    First every live token leaves its key and value, and the forward stops there; then the block
    runs for the tokens that are read, on those keys and values.
    """

    kept: Pair | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Pass:
    left: Sequence[SegmentLeft]
    first: int
    """The lowest block that runs."""
    n_blocks: int
    """All blocks of the model."""
    last: LastBlock


@contextmanager
def attending(loaded: LoadedModel, first: int, left: Sequence[SegmentLeft]) -> Iterator[None]:
    """Make the model's blocks attend segment by segment, while the block runs.

    Args:
        loaded: a model for which ``splits_attention`` holds.
        first: the lowest block that runs.
        left: of every segment.
    """
    AttentionInterface.register(_NAME, _attend)
    config: Any = loaded.model.config
    usual = config._attn_implementation  # noqa: SLF001  transformers has no public name for it
    token = _pass.set(_Pass(left, first, len(loaded.blocks), LastBlock()))
    # No mask is registered under this name, so transformers makes none.
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
    _mask: None,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return attention of a flat list of live tokens, (1, T, H, d).

    Args:
        module: a block's attention; its ``layer_idx`` chooses the left context.
        query: (1, H, T, d); in the last block, of the tokens that are read.
        key: (1, G, T, d), G heads shared by H / G queries each.
        value: likewise.
        scaling: of the scores; one over the root of d where None.
        softcap: bound of the scores (Gemma 2).
        sliding_window: how many tokens a query sees, its own included; None for all.
    """
    now = _pass.get()
    index = int(module.layer_idx)  # type: ignore[arg-type]  # a number, whatever torch says
    is_last = index == now.n_blocks - 1
    if is_last:
        if now.last.kept is None:
            now.last.kept = (key, value)
            raise EnoughIsKnown
        key, value = now.last.kept
    segments = [left.keys(index - now.first) for left in now.left]
    sizes = [each.segment.n_reads if is_last else each.segment.width for each in now.left]
    masks = [
        left.mask(sliding_window, size, query.dtype)
        for left, size in zip(now.left, sizes, strict=True)
    ]
    rule = AttentionRule(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap)
    return attend(query[0], (key[0], value[0]), segments, masks, rule)[None], None
