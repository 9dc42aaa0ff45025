"""Packed layout: the suffix tokens of a batch of edits as one flat list without padding.

A suffix is a row from its subject's last token on. Rows whose suffixes are of one length are
segments: rectangles of slots x edits x tokens, one behind the other in the list. A slot is a
context template; a batch's last slot is the KL row, of which the subject's last token alone is the
suffix, since its logits are read there.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from editcollapse.forward.rewrites import Rewrite


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Rows of equal shape: S slots of E edits, W tokens each."""

    slots: tuple[int, ...]
    edits: Tensor
    """int64 (E,): indices in the batch."""
    width: int
    """W."""
    n_reads: int
    """M: the last tokens of a row, whose logits are read; they predict the target's M tokens."""
    is_kl: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """S, E, W."""
        return len(self.slots), len(self.edits), self.width

    @property
    def n_rows(self) -> int:
        """S · E."""
        return len(self.slots) * len(self.edits)

    @property
    def n_tokens(self) -> int:
        """S · E · W."""
        return self.n_rows * self.width

    def rows(self, n_slots: int) -> Tensor:
        """Return the indices of the rows, edits outermost, as int64 (S, E).

        Args:
            n_slots: of the batch, the KL slot included.
        """
        slots = torch.tensor(self.slots, device=self.edits.device)
        return self.edits * n_slots + slots[:, None]

    def some(self, is_kept: Tensor) -> "Segment":
        """Return the segment of some of its edits, bool (E,)."""
        return dataclasses.replace(self, edits=self.edits[is_kept])


def segments_of(rewrites: Sequence[Rewrite], device: torch.device) -> tuple[Segment, ...]:
    """Return the segments of a batch, those with fewer suffix tokens first, the KL rows last.

    Nearly always all prompts of an edit have the same suffix. Where a tokenizer cuts the text
    behind the subject otherwise in some contexts, the edit's rows lie in several segments.
    """
    found: dict[tuple[bool, int, int, tuple[int, ...]], list[int]] = {}
    for index, rewrite in enumerate(rewrites):
        n_reads = len(rewrite.target)
        by_width: dict[int, list[int]] = {}
        for slot, width in enumerate(rewrite.suffix_widths):
            by_width.setdefault(width, []).append(slot)
        for width, slots in by_width.items():
            found.setdefault((False, width, n_reads, tuple(slots)), []).append(index)
        found.setdefault((True, 1, 1, (len(rewrite.prompts),)), []).append(index)
    return tuple(
        Segment(slots, torch.tensor(edits, device=device), width, n_reads, is_kl)
        for (is_kl, width, n_reads, slots), edits in sorted(found.items())
    )


def subject_indices(segments: Sequence[Segment], device: torch.device) -> Tensor:
    """Return the index of each row's first suffix token in the flat list, int64 (rows,)."""
    return _indices(segments, device, first=True)


def read_indices(segments: Sequence[Segment], device: torch.device) -> Tensor:
    """Return the indices of the tokens whose logits are read, row by row, int64 (reads,)."""
    return _indices(segments, device, first=False)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowIndices:
    """Indices into the flat list, computed once per batch: R rows, and Q tokens that are read."""

    subject: Tensor
    """int64 (R,): of each row's first suffix token in the flat list."""
    owner: Tensor
    """int64 (R,): of each row's edit in the batch."""
    read: Tensor
    """int64 (Q,): of the tokens whose logits are read."""

    @classmethod
    def of(cls, segments: Sequence[Segment], device: torch.device) -> "RowIndices":
        """Return the indices of some segments' rows."""
        return cls(
            subject=subject_indices(segments, device),
            owner=torch.cat([each.edits.repeat(len(each.slots)) for each in segments]),
            read=read_indices(segments, device),
        )


def _indices(segments: Sequence[Segment], device: torch.device, *, first: bool) -> Tensor:
    found, start = [], 0
    for segment in segments:
        tokens = torch.arange(start, start + segment.n_tokens, device=device)
        by_row = tokens.view(segment.n_rows, segment.width)
        found.append(by_row[:, :1] if first else by_row[:, segment.width - segment.n_reads :])
        start += segment.n_tokens
    return torch.cat([indices.flatten() for indices in found])
