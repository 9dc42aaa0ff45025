"""Live tokens: an edit at a subject's last token changes nothing to its left.

Each row is split at its subject's last token. What is left of it runs once, most of it shared
between edits (``contexts``), and the blocks above the edited one keep its keys and values; each
pass of v* then runs the live tokens alone, those from the subject's last one on, as one flat list
(``segments``).
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from editcollapse.attention import SegmentLeft, attending, splits_attention
from editcollapse.entry import overwrite
from editcollapse.left import RowContexts, UsualLeft
from editcollapse.rewrites import Rewrite
from editcollapse.segments import RowPlaces, Segment, segments_of
from editcollapse.sites import EditSite, LeftContext


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LiveTokens:
    """The live tokens of some edits' rows, T in all, with what the blocks above keep of the rest.

    R rows, of which Q tokens' logits are read. Tensors of states have the type of the weights.
    """

    site: EditSite
    left: tuple[SegmentLeft, ...]
    """Of each segment, in the order of the flat list."""
    places: RowPlaces
    """In that list."""
    positions: Tensor
    """int64 (T,): places in the whole rows."""
    residual: Tensor
    """After the edited layer, (T, D); a pass overwrites it at the subjects."""
    entries: tuple[Tensor, ...]
    """What the linear maps at the entry of the block above give, (T, out) each; likewise."""
    subject_residual: Tensor
    """Unedited, at each row's subject, (R, D)."""
    subject_value: Tensor
    """Unedited, (R, D); empty for families whose residual is enough."""
    usual: tuple[UsualLeft, ...]
    """Of each segment, for families that attend in their own way; empty for others."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        """How the rows lie in the flat list."""
        return tuple(left.segment for left in self.left)

    def states(self, delta: Tensor) -> Tensor:
        """Return the states after the final norm of the tokens that are read, (Q, D).

        Differentiable in ``delta``; its gradient must be taken before the next call.

        Args:
            delta: added to the value at the subjects of each edit of the batch, (B, D).
        """
        places = self.places
        change = delta[places.owner]
        moved = self.site.add_to_value(self.subject_residual, self.subject_value, change)
        residual = overwrite(self.residual, moved, places.subject)
        if not self.site.n_above:
            return self.site.continue_from(residual[places.read][None])[0]
        if self.usual:
            return self._segment_by_segment(residual)
        first = self.site.layer + 1
        entry = self.site.entry.overwritten(self.entries, places.subject)
        with attending(self.site.loaded, first, self.left):
            left = LeftContext(self.positions[None], None, None)
            hidden = self.site.last_input(residual[None], left, entry)
            asked = hidden[:, places.read]
            return self.site.last_from(asked, self.positions[None, places.read])[0]

    def some(self, is_kept: Tensor) -> "LiveTokens":
        """Return the rows of some edits, bool (B,)."""
        tokens, rows, left, usual = [], [], [], []
        for place, each in enumerate(self.left):
            n_slots, _, width = each.segment.shape
            kept = is_kept[each.segment.edits]
            rows.append(kept.repeat(n_slots))
            tokens.append(kept.repeat(n_slots).repeat_interleave(width))
            if kept.any():
                left.append(each.some(kept))
                if self.usual:
                    usual.append(self.usual[place].some(rows[-1]))
        token, row = torch.cat(tokens), torch.cat(rows)
        return LiveTokens(
            site=self.site,
            left=tuple(left),
            places=RowPlaces.of([each.segment for each in left], token.device),
            positions=self.positions[token],
            residual=self.residual[token],
            entries=tuple(output[token] for output in self.entries),
            subject_residual=self.subject_residual[row],
            subject_value=self.subject_value[row] if self.site.reads_value else self.subject_value,
            usual=tuple(usual),
        )

    def _segment_by_segment(self, residual: Tensor) -> Tensor:
        """Return the states that are read, (Q, D), by the family's own attention."""
        found, start = [], 0
        for segment, usual in zip(self.segments, self.usual, strict=True):
            tokens = slice(start, start := start + segment.n_tokens)
            rows = residual[tokens].view(segment.n_rows, segment.width, -1)
            hidden = self.site.continue_from(rows, usual.context(self.site.layer))
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
def split_rewrites(site: EditSite, rewrites: Sequence[Rewrite]) -> tuple[LiveTokens, SubjectStates]:
    """Return a batch split at its subjects' last tokens; every token has run once, and no more.

    Args:
        site: the edited layer.
        rewrites: B edits with the same P context templates.
    """
    device = site.loaded.device
    segments = segments_of(rewrites, device)
    rows = RowContexts(site, rewrites)
    n_slots = rows.n_slots
    # Where each row's first live token lies in the flat list.
    starts = torch.empty(len(rewrites) * n_slots, dtype=torch.int64, device=device)
    places = torch.cat([segment.rows(n_slots).flatten() for segment in segments])
    own = RowPlaces.of(segments, device)
    starts[places] = own.subject
    states = rows.run(starts, sum(segment.n_tokens for segment in segments))
    left = rows.left_of(segments)
    entries: list[Tensor] = []
    usual: list[UsualLeft] = []
    if site.n_above and splits_attention(site.loaded):
        entries = site.entry.outputs(states.residual)
    elif site.n_above:
        usual = [UsualLeft.of(each) for each in left]
        left = tuple(each.without_keys() for each in left)
    live = LiveTokens(
        site=site,
        left=left,
        places=own,
        positions=states.positions,
        residual=states.residual,
        entries=tuple(entries),
        subject_residual=states.residual[starts[places]],
        subject_value=states.value[places] if site.reads_value else states.value[:0],
        usual=tuple(usual),
    )
    shape = (len(rewrites), n_slots, -1)
    return live, SubjectStates(states.key.view(shape), states.value.view(shape))
