"""Shared prefixes: what a template puts before every subject runs once per batch.

The rows of a batch come in slots: slot p of every edit opens with the same context template, so
its first tokens are the same ids. Each slot's longest common prefix, never reaching beyond a
subject's last token, runs once; a row then runs its remaining tokens on the keys and values that
every block kept of the prefix. The prefix is found by comparing ids, so nothing is assumed of the
tokenizer.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

import torch
from torch import Tensor
from transformers import DynamicCache

from editcollapse.forward.hooked_layer import HookedLayer, PrefixCache
from editcollapse.models.tokenization import pad_right

Pairs = list[tuple[Tensor, Tensor]]
"""Keys and values of each block, (N, H, left, d), padded on the left."""


class SharedContexts:
    """The shared prefix of each slot, with the keys and values that every block keeps of it.

    Args:
        hooked: the edited layer.
        rows: token ids of N rows; row n stands in slot n modulo ``n_slots``.
        where: each row's subject's last token, which stays outside the prefix.
        n_slots: rows of one edit.
        above: whether blocks above the edited one are needed too.
    """

    def __init__(
        self,
        hooked: HookedLayer,
        rows: Sequence[Sequence[int]],
        where: Sequence[int],
        n_slots: int,
        *,
        above: bool,
    ) -> None:
        device = hooked.loaded.device
        prefixes = []
        for slot in range(n_slots):
            limit = min(where[slot::n_slots])
            prefixes.append(_common_prefix(rows[slot::n_slots])[:limit])
        sizes = [len(prefix) for prefix in prefixes]
        self.width = max(sizes)
        """Tokens of the longest prefix."""
        self._n_slots = n_slots
        self._sizes = torch.tensor(sizes, device=device)
        self.kept: Pairs = []
        """Keys and values (n_slots, G, width, d) in every block that was run; empty without
        prefixes."""
        if self.width:
            # A slot without a prefix runs one token of no consequence: its keys are masked out.
            ids = pad_right([prefix or (0,) for prefix in prefixes], device)
            slots = torch.arange(self.width, device=device) - self.width + self._sizes[:, None]
            self.kept = [
                picked(pair, slots.clamp(min=0)) for pair in hooked.context(ids, above=above)
            ]

    def sizes(self, rows: Tensor) -> Tensor:
        """Return the tokens that each of some rows shares, int64 (N,).

        Args:
            rows: int64 (N,): indices of the rows.
        """
        return self._sizes[rows % self._n_slots]

    def mask(self, rows: Tensor) -> Tensor:
        """Return int64 (N, width): 1 where a row has a shared token, 0 where it is padding."""
        slots = torch.arange(self.width, device=rows.device) - self.width
        return (slots + self.sizes(rows)[:, None] >= 0).to(torch.int64)

    def pairs(self, rows: Tensor, n_blocks: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each row's keys and values in every block that was run, or in the first few."""
        slots = rows % self._n_slots
        return ((key[slots], value[slots]) for key, value in self.kept[:n_blocks])


class Tails:
    """Some rows without what they share: the tokens that each has to run itself.

    Args:
        hooked: the edited layer.
        shared: what the rows share.
        rows: token ids of some rows.
        index: int64 (N,): the indices of these rows among those that ``shared`` was made of.
    """

    def __init__(
        self,
        hooked: HookedLayer,
        shared: SharedContexts,
        rows: Sequence[Sequence[int]],
        index: Tensor,
    ) -> None:
        device = index.device
        self.hooked = hooked
        self.shared_width = shared.width
        self.n_shared = shared.sizes(index)
        """int64 (N,): tokens of each row that are shared."""
        tails = [row[size:] for row, size in zip(rows, self.n_shared.tolist(), strict=True)]
        self.ids = pad_right(tails, device)
        """int64 (N, T)."""
        # A padded token takes its row's last position, which every model has.
        last = torch.tensor([len(row) - 1 for row in rows], device=device)
        at = torch.arange(self.ids.shape[1], device=device)
        self.positions = torch.minimum(self.n_shared[:, None] + at, last[:, None])
        """int64 (N, T): indices in the whole rows."""
        self._shared, self._index = shared, index
        self._mask = torch.cat([shared.mask(index), torch.ones_like(self.ids)], dim=1)

    def prefix(self, n_tokens: int | None = None, *, above: bool = False) -> PrefixCache | None:
        """Return the prefix cache of the first tokens of the tails; None where nothing is shared.

        Args:
            n_tokens: how many of the tails' tokens run; all where None.
            above: for the blocks above the edited one too.
        """
        if not self._shared.kept:
            return None
        # Block by block: each is copied into the cache, and memory never holds them twice.
        pairs = self._shared.pairs(self._index, None if above else self.hooked.layer + 1)
        size = self.ids.shape[1] if n_tokens is None else n_tokens
        mask = self._mask[:, : self.shared_width + size]
        return PrefixCache(self.positions[:, :size], mask, cache_of(pairs))


def cache_of(pairs: Iterable[tuple[Tensor, Tensor]]) -> DynamicCache:
    """Return the pairs as a cache, one entry a block."""
    cache = DynamicCache()
    for layer, (key, value) in enumerate(pairs):
        cache.update(key, value, layer)
    return cache


def _common_prefix(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the ids that all rows open with."""
    same = takewhile(lambda ids: len(set(ids)) == 1, zip(*rows, strict=False))
    return tuple(ids[0] for ids in same)


def picked(pair: tuple[Tensor, Tensor], slots: Tensor) -> tuple[Tensor, Tensor]:
    """Return the entries of some positions of every row.

    Args:
        pair: keys and values, (N, G, T, d) each.
        slots: int64 (N, n): the positions.
    """
    key, value = (
        whole.gather(2, slots[:, None, :, None].expand(-1, whole.shape[1], -1, whole.shape[3]))
        for whole in pair
    )
    return key, value
