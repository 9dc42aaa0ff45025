"""Attention of packed suffixes over a prefix KV cache that stays as it is, with its gradient.

In every pass of v* a few tokens attend to many on their left whose keys and values never change.
The usual kernel wants rows of one length, and everything of a row in one tensor: it copies the
prefix in each pass and works out gradients for it that nobody reads. Here all rows of a batch are
one flat list of tokens (``packed_layout``), so that norms and products run once for all and nothing
is padded. Only attention knows of rows.

Rows are rectangles. A row's queries look at three kinds of keys: those that its template shares
with all edits, its own left of the subject, and its suffix's. The first two never change. So scores
with shared keys are one product for all edits of a template, own and suffix keys lie side by side
in a buffer of which a pass writes the suffix's part, and the gradient, written out here, is worked
out for the suffix only. Autograd would keep and copy each of a dozen steps.

softmax(q [shared | own | suffix]ᵀ + mask) [shared | own | suffix]; for A = softmax(S) and a
gradient G of the result, dA = G vᵀ, dS = A (dA - sum(A dA)), dq = dS k, dk = dSᵀ q, dv = Aᵀ G.

Registered with transformers' attention interface and used inside ``attending`` only; families
whose attention does not go through that interface (GPT-J, GPT-Neo, BLOOM, Falcon, StableLM) take
the usual way.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from editcollapse.compat import attention_implementation, softmax_backward
from editcollapse.forward.module_views import StopForward
from editcollapse.forward.packed_layout import Segment
from editcollapse.models.loading import LoadedModel

Pair = tuple[Tensor, Tensor]
"""Keys and values."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SegmentKeys:
    """Keys and values of one segment in one block; G key heads of width d."""

    segment: Segment
    shared: Pair
    """Of what each template shares, padded on the left: (S, G, L, d)."""
    near: Pair
    """Of each row's own tokens left of its subject, padded on the left, and of its suffix tokens:
    (S, G, E, O + W, d). A pass writes the suffix part."""

    @property
    def n_own(self) -> int:
        """O."""
        return self.near[0].shape[3] - self.segment.width


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class AttentionRule:
    """Scaling and soft cap of a family's attention scores."""

    scaling: float
    softcap: float | None
    """Scores are ``softcap · tanh(score / softcap)``; None for as they are."""


def attend(
    query: Tensor,
    suffix: Pair,
    segments: Sequence[SegmentKeys],
    masks: Sequence[Tensor],
    rule: AttentionRule,
) -> Tensor:
    """Return attention of suffix tokens, (T, H, d); differentiable in query and suffix.

    The gradient must be taken before the next call for the same block.

    Args:
        query: (H, T, d): of every suffix token, or of each row's last few.
        suffix: keys and values of every suffix token, (G, all, d) each; H / G heads share one.
        segments: in the order of the flat list.
        masks: of each segment, (S, 1, E, 1, n, L + O + W): added to scores, n queries a row.
        rule: of the family.
    """
    found: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        query, *suffix, segments, masks, rule
    )
    return found


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        segments: Sequence[SegmentKeys],
        masks: Sequence[Tensor],
        rule: AttentionRule,
    ) -> Tensor:
        result = query.new_empty((query.shape[1], query.shape[0], query.shape[2]))
        parts = _parts(segments, masks, query, key)
        for part in parts:
            part.keep_suffix(key, value)
            part.attend(query, result, rule)
        ctx.parts, ctx.rule = parts, rule
        ctx.shapes = query.shape, key.shape
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (n_heads, n_queries, width), (n_groups, n_suffix, _) = ctx.shapes
        # Token by token in memory, as the projections in front of them want it.
        d_query = gradient.new_empty((n_queries, n_heads, width))
        d_key = gradient.new_empty((n_suffix, n_groups, width))
        d_value = torch.empty_like(d_key)
        for part in ctx.parts:
            part.give_back(gradient, d_query, d_key, d_value, ctx.rule)
        ctx.parts = None
        return (*(each.transpose(0, 1) for each in (d_query, d_key, d_value)), None, None, None)


def _parts(
    segments: Sequence[SegmentKeys], masks: Sequence[Tensor], query: Tensor, key: Tensor
) -> "list[_Part]":
    """Return the work of each segment with its slices of the flat lists."""
    found, asked, known = [], 0, 0
    for keys, mask in zip(segments, masks, strict=True):
        n_queries = keys.segment.n_rows * mask.shape[4]
        n_suffix = keys.segment.n_tokens
        found.append(
            _Part(
                keys=keys,
                mask=mask,
                asked=slice(asked, asked + n_queries),
                known=slice(known, known + n_suffix),
                n_heads=query.shape[0],
                n_groups=key.shape[0],
            )
        )
        asked += n_queries
        known += n_suffix
    return found


@dataclasses.dataclass(slots=True, eq=False)
class _Part:
    """One segment's share; S slots, E edits, n queries and W suffix tokens a row."""

    keys: SegmentKeys
    mask: Tensor
    asked: slice
    known: slice
    n_heads: int
    n_groups: int
    queries: Tensor | None = None
    """Scaled, (S, G, E, H/G, n, d)."""
    shares: Tensor | None = None
    """(S, G, E, H/G, n, L + O + W)."""
    slopes: Tensor | None = None
    """Derivative of the soft cap, like ``shares``."""

    def keep_suffix(self, key: Tensor, value: Tensor) -> None:
        """Write the suffix keys and values beside the row's own."""
        for buffer, states in zip(self.keys.near, (key, value), strict=True):
            shape = (self.n_groups, *self.keys.segment.shape, -1)
            suffix = states[:, self.known].view(shape)  # (G, S, E, W, d)
            buffer[:, :, :, self.keys.n_own :] = suffix.transpose(0, 1)

    def attend(self, query: Tensor, result: Tensor, rule: AttentionRule) -> None:
        """Write the attention of the segment's queries."""
        self.queries = self._by_head(query) * rule.scaling
        scores = self._joined(self._products(self.queries, 0))
        if rule.softcap is not None:
            bent = torch.tanh_(scores.div_(rule.softcap))
            self.slopes = 1 - bent.square()
            scores = bent.mul_(rule.softcap)
        scores += self.mask
        wide = torch.float64 if scores.dtype == torch.float64 else torch.float32
        self.shares = torch.softmax(scores, dim=-1, dtype=wide).to(result.dtype)
        found = self._sums(self.shares, 1)
        self._by_token(result, self.asked)[:] = found

    def give_back(
        self,
        gradient: Tensor,
        d_query: Tensor,
        d_key: Tensor,
        d_value: Tensor,
        rule: AttentionRule,
    ) -> None:
        """Write the gradients of the segment's queries and suffix keys and values."""
        assert self.queries is not None
        assert self.shares is not None
        given = self._by_token(gradient, self.asked).contiguous()
        d_shares = self._joined(self._products(given, 1))
        wide = d_shares.dtype if d_shares.dtype == torch.float64 else torch.float32
        d_scores = softmax_backward(d_shares.to(wide), self.shares.to(wide)).to(d_shares.dtype)
        if self.slopes is not None:
            d_scores *= self.slopes
        self._by_token(d_query, self.asked)[:] = self._sums(d_scores, 0).mul_(rule.scaling)
        for whole, shares, rows in (
            (d_key, d_scores, self.queries),
            (d_value, self.shares, given),
        ):
            suffix = shares[..., shares.shape[-1] - self.keys.segment.width :]
            n_rows, n_suffix = suffix.shape[:3].numel(), suffix.shape[-1]
            found = suffix.reshape(n_rows, -1, n_suffix).mT @ rows.reshape(
                n_rows, -1, rows.shape[-1]
            )
            slots, edits, width = self.keys.segment.shape
            target = whole[self.known].view(slots, edits, width, self.n_groups, -1)
            target[:] = found.view(slots, self.n_groups, edits, width, -1).permute(0, 2, 3, 1, 4)

    def _products(self, rows: Tensor, which: int) -> tuple[Tensor, Tensor]:
        """Return rows (S, G, E, H/G, n, d) times shared and near keys (0) or values (1)."""
        d = rows.shape[-1]
        shared, near = self.keys.shared[which], self.keys.near[which]
        n_slots, n_rows = rows.shape[:2].numel(), rows.shape[:3].numel()
        return (
            torch.bmm(rows.reshape(n_slots, -1, d), shared.reshape(n_slots, -1, d).mT),
            torch.bmm(rows.reshape(n_rows, -1, d), near.reshape(n_rows, -1, d).mT),
        )

    def _joined(self, products: tuple[Tensor, Tensor]) -> Tensor:
        """Return products with shared and near keys side by side, (S, G, E, H/G, n, L + O + W)."""
        assert self.queries is not None
        shape = self.queries.shape[:-1]
        far, near = (each.view(*shape, each.shape[-1]) for each in products)
        return torch.cat([far, near], dim=-1) if far.shape[-1] else near

    def _sums(self, shares: Tensor, which: int) -> Tensor:
        """Return shares times shared and near keys (0) or values (1), (S, G, E, H/G, n, d)."""
        shared, near = self.keys.shared[which], self.keys.near[which]
        n_shared, d = shared.shape[2], shared.shape[3]
        n_slots, n_rows = shares.shape[:2].numel(), shares.shape[:3].numel()
        n_near = shares.shape[-1] - n_shared
        close = shares[..., n_shared:].reshape(n_rows, -1, n_near)
        found = torch.bmm(close, near.reshape(n_rows, -1, d)).view(n_slots, -1, d)
        if n_shared:
            far = shares[..., :n_shared].reshape(n_slots, -1, n_shared)
            found.baddbmm_(far, shared.reshape(n_slots, -1, d))
        return found.view(*shares.shape[:-1], d)

    def _by_head(self, states: Tensor) -> Tensor:
        """Return (H, T, d) of this segment as (S, G, E, H/G, n, d), contiguous."""
        slots, edits, _ = self.keys.segment.shape
        some = states[:, self.asked]
        shape = (self.n_groups, -1, slots, edits, some.shape[1] // (slots * edits), some.shape[2])
        return some.view(shape).permute(2, 0, 3, 1, 4, 5).contiguous()

    def _by_token(self, states: Tensor, tokens: slice) -> Tensor:
        """Return a view of (T, H, d) of this segment as (S, G, E, H/G, n, d)."""
        slots, edits, _ = self.keys.segment.shape
        some = states[tokens]
        shape = (slots, edits, len(some) // (slots * edits), self.n_groups, -1, some.shape[2])
        return some.view(shape).permute(0, 3, 1, 4, 2, 5)


_NAME = "editcollapse_segments"
_pass: ContextVar["_Pass"] = ContextVar("the pass that runs")


def splits_attention(loaded: LoadedModel) -> bool:
    """Return whether a family's attention goes through transformers' interface."""
    return bool(getattr(loaded.model, "_supports_attention_backend", False))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SegmentPrefix:
    """Prefix KV cache of a segment, with the positions of prefix and suffix.

    G key heads; L tokens of the longest shared prefix and O of the longest own prefix, both
    padded on the left. Positions of padding are negative.
    """

    segment: Segment
    shared: list[Pair]
    """Of each block above the edited one: (S, G, L, d); empty for families with other attention."""
    near: list[Pair]
    """Of each block above the edited one: (S, G, E, O + W, d); the suffix part waits for a pass.
    Empty likewise."""
    shared_positions: Tensor
    """int64 (S, L)."""
    own_positions: Tensor
    """int64 (S, E, O)."""
    positions: Tensor
    """int64 (S, E, W): of the suffix tokens."""
    _masks: dict[tuple[int | None, int, torch.dtype], Tensor] = dataclasses.field(
        default_factory=dict
    )

    def keys(self, block: int) -> SegmentKeys:
        """Return the keys and values of one block, counted from the first above the edited one."""
        return SegmentKeys(self.segment, self.shared[block], self.near[block])

    def without_keys(self) -> "SegmentPrefix":
        """Return it without keys and values: only how the segment lies."""
        return dataclasses.replace(self, shared=[], near=[])

    def some(self, is_kept: Tensor) -> "SegmentPrefix":
        """Return the prefix of some of the segment's edits, bool (E,)."""
        return SegmentPrefix(
            segment=self.segment.some(is_kept),
            shared=self.shared,
            near=[(key[:, :, is_kept], value[:, :, is_kept]) for key, value in self.near],
            shared_positions=self.shared_positions,
            own_positions=self.own_positions[:, is_kept],
            positions=self.positions[:, is_kept],
        )

    def mask(self, window: int | None, n_queries: int, dtype: torch.dtype) -> Tensor:
        """Return the additive attention mask, (S, 1, E, 1, n, L + O + W).

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
    """The last block's attention in two steps, since few of its outputs are ever read.

    First every suffix token leaves its key and value, and the forward stops there; then the block
    runs for the tokens that are read, on those keys and values.
    """

    kept: Pair | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Pass:
    prefixes: Sequence[SegmentPrefix]
    first: int
    """The lowest block that runs."""
    n_blocks: int
    """All blocks of the model."""
    last: LastBlock


@contextmanager
def attending(loaded: LoadedModel, first: int, prefixes: Sequence[SegmentPrefix]) -> Iterator[None]:
    """Make the model's blocks attend segment by segment, while the block runs.

    Args:
        loaded: a model for which ``splits_attention`` holds.
        first: the lowest block that runs.
        prefixes: of every segment.
    """
    AttentionInterface.register(_NAME, _attend)
    token = _pass.set(_Pass(prefixes, first, len(loaded.blocks), LastBlock()))
    try:
        # No mask is registered under this name, so transformers makes none.
        with attention_implementation(loaded.model.config, _NAME):
            yield
    finally:
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
    """Return attention of a flat list of suffix tokens, (1, T, H, d).

    Args:
        module: a block's attention; its ``layer_idx`` chooses the prefix.
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
            raise StopForward
        key, value = now.last.kept
    segments = [prefix.keys(index - now.first) for prefix in now.prefixes]
    sizes = [each.segment.n_reads if is_last else each.segment.width for each in now.prefixes]
    masks = [
        prefix.mask(sliding_window, size, query.dtype)
        for prefix, size in zip(now.prefixes, sizes, strict=True)
    ]
    rule = AttentionRule(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap)
    return attend(query[0], (key[0], value[0]), segments, masks, rule)[None], None
