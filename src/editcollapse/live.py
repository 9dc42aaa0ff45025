"""Live tokens: an edit at a subject's last token changes nothing to its left.

Each row is split at its subject's last token. What is left of it runs once, most of it shared
between edits (``contexts``), and the blocks above the edited one keep its keys and values; each
pass of v* then runs the live tokens alone, those from the subject's last one on. Left contexts are
padded on the left and live tokens on the right, so that real tokens stay next to each other and
every family's positions and windows hold.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from editcollapse.attention import LastBlock, LeftCache, attending, splits_attention
from editcollapse.contexts import Pairs, SharedContexts, Tails, cache_of, left_padded
from editcollapse.sites import EditSite, LeftContext

_TOKENS_AT_ONCE = 2048
"""Tokens, left contexts included, in one forward of the part that runs once."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LiveRows:
    """The live tokens of N rows, with what the blocks above keep of the tokens left of them."""

    site: EditSite
    ids: Tensor
    """int64 (N, live)."""
    positions: Tensor
    """int64 (N, live): places in the whole row."""
    residual: Tensor
    """After the edited layer, unedited, (N, live, D), dtype of the weights."""
    value: Tensor
    """Unedited, (N, live, D); empty for families whose residual is enough."""
    left_mask: Tensor
    """int64 (N, left): 0 where a left context is padding."""
    left: Pairs
    """Of each block above, (N, H, left, d)."""

    @classmethod
    def joined(cls, parts: "Sequence[LiveRows]") -> "LiveRows":
        """Return the rows of several parts of the same widths."""

        def whole(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in parts])

        blocks = zip(*(part.left for part in parts), strict=True)
        return cls(
            site=parts[0].site,
            ids=whole("ids"),
            positions=whole("positions"),
            residual=whole("residual"),
            value=whole("value"),
            left_mask=whole("left_mask"),
            left=[
                (torch.cat([key for key, _ in block]), torch.cat([value for _, value in block]))
                for block in blocks
            ],
        )

    def rows(self, index: Tensor) -> "LiveRows":
        """Return some of the rows."""
        return LiveRows(
            site=self.site,
            ids=self.ids[index],
            positions=self.positions[index],
            residual=self.residual[index],
            value=self.value[index],
            left_mask=self.left_mask[index],
            left=[(key[index], value[index]) for key, value in self.left],
        )

    def states_at(self, residual: Tensor, at: Tensor) -> Tensor:
        """Return some live tokens' states after the final norm, (N, M, D).

        Differentiable in ``residual``.

        Args:
            residual: after the edited layer, (N, live, D), dtype of the weights.
            at: int64 (N, M): the live tokens that are read.
        """
        rows = torch.arange(len(at), device=at.device)[:, None]
        if not self.left:
            left = LeftContext(self.positions, None, None)
            return self.site.continue_from(self.ids, residual, left)[rows, at]
        # Blocks up to the edited one do not run, but the mask is sized by the first entry.
        pairs = [self.left[0]] * (self.site.layer + 1) + self.left
        mask = torch.cat([self.left_mask, torch.ones_like(self.ids)], dim=1)
        if not splits_attention(self.site.loaded):
            left = LeftContext(self.positions, mask, cache_of(pairs))
            return self.site.continue_from(self.ids, residual, left)[rows, at]
        fixed = LeftCache(pairs)
        with attending(self.site.loaded, fixed, LastBlock(at)):
            left = LeftContext(self.positions, mask, fixed)
            hidden = self.site.last_input(self.ids, residual, left)
            return self.site.last_from(
                self.ids[rows, at], hidden[rows, at], self.positions[rows, at]
            )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SubjectStates:
    """Key and value at each row's subject's last token, dtype of the weights."""

    key: Tensor
    """(N, K)."""
    value: Tensor
    """(N, D)."""


def split_rows(
    site: EditSite, rows: Sequence[Sequence[int]], where: Sequence[int], n_slots: int
) -> tuple[LiveRows, SubjectStates]:
    """Return rows split at their subjects' last tokens; every token has run once, and no more.

    Args:
        site: the edited layer.
        rows: token ids of N rows; row n stands in slot n modulo ``n_slots`` (``contexts``).
        where: each row's first live token.
        n_slots: rows of one edit.
    """
    shared = SharedContexts(site, rows, where, n_slots, above=True)
    width = shared.width + max(len(row) for row in rows)
    at_once = max(1, _TOKENS_AT_ONCE // width)
    n_live = max(len(row) - first for row, first in zip(rows, where, strict=True))
    n_left = max(where)
    live, subject = [], []
    with torch.no_grad():
        for start in range(0, len(rows), at_once):
            some = slice(start, start + at_once)
            index = torch.arange(len(rows), device=site.loaded.device)[some]
            tails = _LiveTails(site, shared, rows[some], index, where[some])
            part = tails.split(n_live, n_left)
            live.append(part[0])
            subject.append(part[1])
    return LiveRows.joined(live), SubjectStates(
        torch.cat([part.key for part in subject]), torch.cat([part.value for part in subject])
    )


class _LiveTails(Tails):
    """Tails that are split at their subjects' last tokens."""

    def __init__(
        self,
        site: EditSite,
        shared: SharedContexts,
        rows: Sequence[Sequence[int]],
        index: Tensor,
        where: Sequence[int],
    ) -> None:
        super().__init__(site, shared, rows, index)
        self.first = torch.tensor(where, device=index.device)

    def split(self, n_live: int, n_left: int) -> tuple[LiveRows, SubjectStates]:
        """Run the tails; return their live tokens and what is kept of the tokens on the left."""
        states = self.site.read(self.ids, self.left())
        every = torch.arange(len(self.ids), device=self.ids.device)
        subject = self.first - self.n_shared
        live = subject[:, None] + torch.arange(n_live, device=self.ids.device)
        live = live.clamp(max=self.ids.shape[1] - 1)
        rows = every[:, None]
        # Places of the left context: negative where it is padding.
        places = torch.arange(n_left, device=self.ids.device) - n_left + self.first[:, None]
        split = LiveRows(
            site=self.site,
            ids=self.ids[rows, live],
            positions=self.positions[rows, live],
            residual=states.residual[rows, live],
            value=states.value[rows, live] if self.site.reads_value else states.value[:, :0],
            left_mask=(places >= 0).to(torch.int64),
            left=self._left_above(states.residual, places) if n_left else [],
        )
        return split, SubjectStates(states.key[every, subject], states.value[every, subject])

    def _left_above(self, residual: Tensor, places: Tensor) -> Pairs:
        """Return what the blocks above keep of some places of the whole rows.

        Args:
            residual: after the edited layer, of the tails.
            places: int64 (N, left).
        """
        if not self.site.n_above:
            return []
        first_above = self.site.layer + 1
        whole = self.pairs[first_above:]
        own = int((self.first - self.n_shared).max())
        if own:
            # Tokens between what is shared and the subject's last one.
            left = self.left(own, above=True) or self._nothing_left(residual)
            self.site.continue_from(self.ids[:, :own], residual[:, :own], left)
            whole = [(layer.keys, layer.values) for layer in left.cache.layers[first_above:]]
        return left_padded(whole, places + self.shared_width - self.n_shared[:, None])

    def _nothing_left(self, residual: Tensor) -> LeftContext:
        """Return a cache to be filled, with an empty entry for each block that does not run."""
        empty = residual.new_zeros((len(residual), 1, 0, 1))
        return LeftContext(None, None, cache_of([(empty, empty)] * (self.site.layer + 1)))
