"""Suffixes: an edit at a subject's last token changes nothing to its left.

Each row is split at its subject's last token. What is left of it runs once, most of it shared
between edits (``prefix_cache``), and the blocks above the edited one keep its keys and values; each
pass of v* then runs the suffixes alone, the tokens from the subject's last one on, as one flat list
(``packed_layout``).
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from editcollapse.forward.batching import length_batches
from editcollapse.forward.hooked_layer import HookedLayer, PrefixCache, overwrite
from editcollapse.forward.packed_attention import Pair, SegmentPrefix, attending, splits_attention
from editcollapse.forward.packed_layout import RowIndices, Segment, segments_of
from editcollapse.forward.prefix_cache import SharedContexts, Tails, cache_of, picked
from editcollapse.forward.rewrites import Rewrite
from editcollapse.runtime.memory import SPLIT_TOKENS


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowStates:
    """States of N rows after one forward; T suffix tokens in all. Dtype of the weights."""

    positions: Tensor
    """int64 (T,)."""
    residual: Tensor
    """After the edited layer, (T, D)."""
    key: Tensor
    """At each row's subject, (N, K)."""
    value: Tensor
    """Likewise, (N, D); the block's output where that is the hooked layer's site."""


class RowContexts:
    """The rows of a batch, edits outermost, and the prefix KV cache before their subjects.

    Args:
        hooked: the edited layer.
        rewrites: B edits with the same context templates.
    """

    def __init__(self, hooked: HookedLayer, rewrites: Sequence[Rewrite]) -> None:
        self.hooked = hooked
        self.n_slots = len(rewrites[0].prompts) + 1
        self._rows = [row for rewrite in rewrites for row in rewrite.rows]
        where = [index for rewrite in rewrites for index in rewrite.subject_last]
        device = hooked.loaded.device
        self._where = torch.tensor(where, device=device)
        self._shared = SharedContexts(hooked, self._rows, where, self.n_slots, above=True)
        every = torch.arange(len(where), device=device)
        self._n_shared = self._shared.sizes(every)
        self._n_own = self._where - self._n_shared
        """int64 (N,): tokens between what is shared and the subject's last one."""
        self._own: list[Pair] = []
        """Of each block above: (N, G, O, d), padded on the left."""

    def run(self, starts: Tensor, n_suffix: int) -> RowStates:
        """Run every row once; return its states, and keep the caches for ``prefixes_of``.

        Args:
            starts: int64 (N,): index of each row's first suffix token in the flat list.
            n_suffix: tokens of that list.
        """
        device = self._where.device
        sizes = self._n_shared.tolist()
        tails = [len(row) - size for row, size in zip(self._rows, sizes, strict=True)]
        positions = torch.empty(n_suffix, dtype=torch.int64, device=device)
        whole: dict[str, Tensor] = {}
        for chosen in length_batches(tails, SPLIT_TOKENS):
            index = torch.tensor(chosen, device=device)
            some = Tails(self.hooked, self._shared, [self._rows[n] for n in chosen], index)
            states = self.hooked.read(some.ids, some.prefix())
            at = torch.arange(some.ids.shape[1], device=device) - self._n_own[index, None]
            real = (
                at
                < (torch.tensor([tails[n] for n in chosen], device=device) - self._n_own[index])[
                    :, None
                ]
            )
            is_suffix = (at >= 0) & real  # (n, T)
            flat = (starts[index, None] + at)[is_suffix]
            subject = (torch.arange(len(chosen), device=device), self._n_own[index])
            positions[flat] = some.positions[is_suffix]
            _fill(whole, "residual", n_suffix, flat, states.residual[is_suffix])
            _fill(whole, "key", len(tails), index, states.key[subject])
            _fill(whole, "value", len(tails), index, self.hooked.target(states)[subject])
            self._keep_own(some, index, states.residual)
        return RowStates(positions, whole["residual"], whole["key"], whole["value"])

    def prefixes_of(self, segments: Sequence[Segment]) -> tuple[SegmentPrefix, ...]:
        """Return each segment's prefix cache; it can be asked for once.

        What the rows have kept is let go block by block, so that memory never holds it twice.
        """
        device = self._where.device
        first_above = self.hooked.layer + 1
        shared: dict[tuple[int, ...], list[Pair]] = {}  # segments of the same slots share it
        found = []
        for segment in segments:
            rows = segment.rows(self.n_slots)  # (S, E)
            slots = rows[:, 0] % self.n_slots
            n_shared, n_own = self._n_shared[rows[:, 0]], self._n_own[rows]
            width, own = int(n_shared.max()), int(n_own.max())
            if segment.slots not in shared:
                shared[segment.slots] = [
                    (_last(key[slots], width), _last(value[slots], width))
                    for key, value in self._shared.kept[first_above:]
                ] or self._nothing(len(slots))
            at_shared = torch.arange(width, device=device) - width + n_shared[:, None]
            at_own = torch.arange(own, device=device) - own + n_own[..., None]
            prefix = SegmentPrefix(
                segment=segment,
                shared=shared[segment.slots],
                near=[],
                shared_positions=at_shared,
                own_positions=torch.where(at_own < 0, -1, at_own + n_shared[:, None, None]),
                positions=self._where[rows][..., None] + torch.arange(segment.width, device=device),
            )
            found.append((prefix, rows, own))
        while self._own:
            key, value = self._own.pop(0)
            for prefix, rows, own in found:
                width = prefix.segment.width
                pair = _near(key[rows], own, width), _near(value[rows], own, width)
                prefix.near.append(pair)
        return tuple(prefix for prefix, _, _ in found)

    def _nothing(self, n_slots: int) -> list[Pair]:
        """Return an empty shared context for each block above."""
        return [
            (key.new_empty((n_slots, key.shape[1], 0, key.shape[3])),) * 2 for key, _ in self._own
        ]

    def _keep_own(self, tails: Tails, index: Tensor, residual: Tensor) -> None:
        """Keep the blocks' keys and values of the tails' tokens left of their subjects."""
        if not self.hooked.n_above:
            return
        first_above = self.hooked.layer + 1
        n_own = self._n_own[index]
        size = int(n_own.max())
        widest = int(self._n_own.max())
        # One token at least, so that a block shows the shape of what it keeps.
        size = max(1, size)
        prefix = tails.prefix(size, above=True) or self._empty_prefix(residual)
        self.hooked.continue_from(residual[:, :size], prefix)
        at = torch.arange(widest, device=index.device) - widest + n_own[:, None]
        slots = (at + tails.shared_width).clamp(min=0)
        for block, layer in enumerate(prefix.cache.layers[first_above:]):
            pair = picked((layer.keys, layer.values), slots)
            if len(self._own) == block:
                shape = (len(self._rows), *pair[0].shape[1:])
                self._own.append((pair[0].new_empty(shape), pair[1].new_empty(shape)))
            for whole, some in zip(self._own[block], pair, strict=True):
                whole[index] = some

    def _empty_prefix(self, residual: Tensor) -> PrefixCache:
        """Return a cache to be filled, with an empty entry for each block that does not run."""
        empty = residual.new_zeros((len(residual), 1, 0, 1))
        return PrefixCache(None, None, cache_of([(empty, empty)] * (self.hooked.layer + 1)))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PaddedPrefix:
    """A segment's prefix cache in transformers' layout: real tokens side by side, padding first."""

    positions: Tensor
    """int64 (N, W): of the suffix tokens."""
    mask: Tensor | None
    """int64 (N, prefix + W): 0 where it is padding; None where there is none."""
    pairs: Sequence[Pair]
    """Of each block above the edited one, (N, G, prefix, d), padded on the left."""

    @classmethod
    def of(cls, prefix: SegmentPrefix) -> "PaddedPrefix":
        """Return a segment's prefix cache, row by row."""
        n_edits = len(prefix.segment.edits)
        shared = prefix.shared_positions[:, None].expand(-1, n_edits, -1)
        is_real = (torch.cat([shared, prefix.own_positions], dim=2) >= 0).flatten(0, 1)
        suffix = prefix.positions.flatten(0, 1)
        if not is_real.shape[1]:
            return cls(suffix, None, ())
        # Stable: padding comes first, and real tokens stay in their order.
        real, order = is_real.to(torch.int64).sort(dim=1, stable=True)
        pairs = []
        n_own = prefix.own_positions.shape[2]
        for common, near in zip(prefix.shared, prefix.near, strict=True):
            key, value = (
                torch.cat([c[:, :, None].expand(-1, -1, n_edits, -1, -1), o[:, :, :, :n_own]], 3)
                .transpose(1, 2)
                .flatten(0, 1)
                for c, o in zip(common, near, strict=True)
            )
            pairs.append(picked((key, value), order))
        return cls(suffix, torch.cat([real, torch.ones_like(suffix)], dim=1), pairs)

    def some(self, is_kept: Tensor) -> "PaddedPrefix":
        """Return the prefix cache of some rows, bool (N,)."""
        mask = None if self.mask is None else self.mask[is_kept]
        pairs = [(key[is_kept], value[is_kept]) for key, value in self.pairs]
        return PaddedPrefix(self.positions[is_kept], mask, pairs)

    def context(self, layer: int) -> PrefixCache:
        """Return it for one pass.

        Args:
            layer: the edited one; blocks up to it do not run.
        """
        if self.mask is None:
            return PrefixCache(self.positions, None, None)
        # The mask is sized by the first entry.
        pairs = [self.pairs[0]] * (layer + 1) + list(self.pairs)
        return PrefixCache(self.positions, self.mask, cache_of(pairs))


def _fill(whole: dict[str, Tensor], name: str, size: int, index: Tensor, rows: Tensor) -> None:
    """Write some rows of a tensor that is made when its first rows come."""
    if name not in whole:
        whole[name] = rows.new_empty((size, *rows.shape[1:]))
    whole[name][index] = rows


def _last(states: Tensor, width: int) -> Tensor:
    return states[:, :, states.shape[2] - width :].contiguous()


def _near(states: Tensor, n_own: int, n_suffix: int) -> Tensor:
    """Return the last entries of (S, E, G, O, d) as (S, G, E, n_own + n_suffix, d), with room."""
    n_slots, n_edits, n_groups, size, d = states.shape
    near = states.new_zeros((n_slots, n_groups, n_edits, n_own + n_suffix, d))
    near[:, :, :, :n_own] = states[:, :, :, size - n_own :].transpose(1, 2)
    return near


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SuffixTokens:
    """The suffix tokens of some edits' rows, T in all, with what the blocks above keep of the rest.

    R rows, of which Q tokens' logits are read. Tensors of states have the type of the weights.
    """

    hooked: HookedLayer
    prefixes: tuple[SegmentPrefix, ...]
    """Of each segment, in the order of the flat list."""
    indices: RowIndices
    """In that list."""
    positions: Tensor
    """int64 (T,): indices in the whole rows."""
    residual: Tensor
    """After the edited layer, (T, D); a pass overwrites it at the subjects."""
    projected: tuple[Tensor, ...]
    """Outputs of the linear maps that read the block above's input, (T, out) each; likewise."""
    subject_residual: Tensor
    """Unedited, at each row's subject, (R, D)."""
    subject_value: Tensor
    """Unedited, (R, D); empty for families whose residual is enough."""
    padded: tuple[PaddedPrefix, ...]
    """Of each segment, for families that attend in their own way; empty for others."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        """How the rows lie in the flat list."""
        return tuple(prefix.segment for prefix in self.prefixes)

    def states(self, delta: Tensor) -> Tensor:
        """Return the states after the final norm of the tokens that are read, (Q, D).

        Differentiable in ``delta``; its gradient must be taken before the next call.

        Args:
            delta: added to the value at the subjects of each edit of the batch, (B, D).
        """
        indices = self.indices
        # An index's gradient would add up an edit's rows in whatever order threads come to them;
        # an embedding's adds them in the order of the rows.
        change = functional.embedding(indices.owner, delta)
        moved = self.hooked.add_to_value(self.subject_residual, self.subject_value, change)
        residual = overwrite(self.residual, moved, indices.subject)
        if not self.hooked.n_above:
            return self.hooked.continue_from(residual[indices.read][None])[0]
        if self.padded:
            return self._segment_by_segment(residual)
        first = self.hooked.layer + 1
        next_block = self.hooked.block_input.overwritten(self.projected, indices.subject)
        with attending(self.hooked.loaded, first, self.prefixes):
            prefix = PrefixCache(self.positions[None], None, None)
            hidden = self.hooked.last_input(residual[None], prefix, next_block)
            asked = hidden[:, indices.read]
            return self.hooked.last_from(asked, self.positions[None, indices.read])[0]

    def some(self, is_kept: Tensor) -> "SuffixTokens":
        """Return the rows of some edits, bool (B,)."""
        tokens, rows, prefixes, padded = [], [], [], []
        for index, each in enumerate(self.prefixes):
            n_slots, _, width = each.segment.shape
            kept = is_kept[each.segment.edits]
            rows.append(kept.repeat(n_slots))
            tokens.append(kept.repeat(n_slots).repeat_interleave(width))
            if kept.any():
                prefixes.append(each.some(kept))
                if self.padded:
                    padded.append(self.padded[index].some(rows[-1]))
        token, row = torch.cat(tokens), torch.cat(rows)
        return SuffixTokens(
            hooked=self.hooked,
            prefixes=tuple(prefixes),
            indices=RowIndices.of([each.segment for each in prefixes], token.device),
            positions=self.positions[token],
            residual=self.residual[token],
            projected=tuple(output[token] for output in self.projected),
            subject_residual=self.subject_residual[row],
            subject_value=self.subject_value[row]
            if self.hooked.reads_value
            else self.subject_value,
            padded=tuple(padded),
        )

    def _segment_by_segment(self, residual: Tensor) -> Tensor:
        """Return the states that are read, (Q, D), by the family's own attention."""
        found, start = [], 0
        for segment, padded in zip(self.segments, self.padded, strict=True):
            tokens = slice(start, start := start + segment.n_tokens)
            rows = residual[tokens].view(segment.n_rows, segment.width, -1)
            hidden = self.hooked.continue_from(rows, padded.context(self.hooked.layer))
            found.append(hidden[:, segment.width - segment.n_reads :].flatten(0, 1))
        return torch.cat(found)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SubjectStates:
    """Key and value at each row's subject's last token, rows edits outermost, KL rows last in each.

    Type of the weights.
    """

    key: Tensor
    """(B, P + 1, K)."""
    value: Tensor
    """(B, P + 1, D)."""


@torch.no_grad()
def split_rewrites(
    hooked: HookedLayer, rewrites: Sequence[Rewrite]
) -> tuple[SuffixTokens, SubjectStates]:
    """Return a batch split at its subjects' last tokens; every token has run once, and no more.

    Args:
        hooked: the edited layer.
        rewrites: B edits with the same P context templates.
    """
    device = hooked.loaded.device
    segments = segments_of(rewrites, device)
    rows = RowContexts(hooked, rewrites)
    n_slots = rows.n_slots
    # Where each row's first suffix token lies in the flat list.
    starts = torch.empty(len(rewrites) * n_slots, dtype=torch.int64, device=device)
    indices = torch.cat([segment.rows(n_slots).flatten() for segment in segments])
    own = RowIndices.of(segments, device)
    starts[indices] = own.subject
    states = rows.run(starts, sum(segment.n_tokens for segment in segments))
    prefixes = rows.prefixes_of(segments)
    projected: list[Tensor] = []
    padded: list[PaddedPrefix] = []
    if hooked.n_above and splits_attention(hooked.loaded):
        projected = hooked.block_input.outputs(states.residual)
    elif hooked.n_above:
        padded = [PaddedPrefix.of(each) for each in prefixes]
        prefixes = tuple(each.without_keys() for each in prefixes)
    suffix = SuffixTokens(
        hooked=hooked,
        prefixes=prefixes,
        indices=own,
        positions=states.positions,
        residual=states.residual,
        projected=tuple(projected),
        subject_residual=states.residual[starts[indices]],
        subject_value=states.value[indices] if hooked.reads_value else states.value[:0],
        padded=tuple(padded),
    )
    shape = (len(rewrites), n_slots, -1)
    return suffix, SubjectStates(states.key.view(shape), states.value.view(shape))
