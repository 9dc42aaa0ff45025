"""Live tokens: an edit at a subject's last token changes nothing to its left.

For every row, the keys and values that the blocks above the edited layer keep of the tokens left of
the subject's last one are computed once; each pass then runs the live tokens alone. Left contexts
are padded on the left and live tokens on the right, so that real tokens stay next to each other
and every family's positions and windows hold.
"""

import torch
from torch import Tensor
from transformers import DynamicCache

from editcollapse.sites import EditSite, SiteStates


class LiveRows:
    """Rows split at the subject's last token.

    Args:
        site: the edited layer.
        states: unedited states of N whole rows, padded on the right.
        where: int64 (N,): each row's first live token.
    """

    def __init__(self, site: EditSite, states: SiteStates, where: Tensor) -> None:
        self._site = site
        n_rows, width = states.ids.shape
        device = states.ids.device
        self._n_left = int(where.max())
        n_live = width - int(where.min())
        at = where[:, None] + torch.arange(n_live, device=device)  # (N, live)
        self._positions = at.clamp(max=width - 1)
        rows = torch.arange(n_rows, device=device)[:, None]
        self.states = SiteStates(
            ids=states.ids[rows, self._positions],
            residual=states.residual[rows, self._positions],
            key=states.key[rows, self._positions],
            value=states.value[rows, self._positions],
        )
        self._left: list[tuple[Tensor, Tensor]] = []
        # Rows of equal width need no padding of their own; a left context shorter than the longest
        # one is masked out where it is padded.
        slots = torch.arange(self._n_left, device=device) - self._n_left + where[:, None]
        ones = torch.ones_like(self._positions)
        self._mask = torch.cat([(slots >= 0).to(ones.dtype), ones], dim=1)
        above = len(site.loaded.blocks) - site.layer - 1
        if self._n_left and above:
            self._left = self._left_context(states, slots.clamp(min=0))

    def rows(self, index: Tensor) -> "LiveRows":
        """Return some of the rows."""
        some = object.__new__(LiveRows)
        some._site = self._site
        some._n_left = self._n_left
        some._positions = self._positions[index]
        some._mask = self._mask[index]
        some.states = self.states.rows(index)
        some._left = [(key[index], value[index]) for key, value in self._left]
        return some

    def continue_from(self, residual: Tensor) -> Tensor:
        """Return the live tokens' states after the final norm, (N, live, D).

        Differentiable in ``residual``, the residual after the edited layer, (N, live, D).
        """
        if not self._left:
            return self._site.continue_from(self.states.ids, residual, self._positions)
        cache = DynamicCache()
        for layer in range(len(self._site.loaded.blocks)):
            # Blocks up to the edited one do not run; the mask is sized by the first layer's entry.
            key, value = self._left[max(0, layer - self._site.layer - 1)]
            cache.update(key, value, layer)
        return self._site.continue_from(
            self.states.ids, residual, self._positions, mask=self._mask, cache=cache
        )

    @torch.no_grad()
    def _left_context(self, states: SiteStates, slots: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return keys and values (N, H, left, d) of each block above, padded on the left."""
        cache = DynamicCache()
        for layer in range(self._site.layer + 1):
            # An empty entry for each block that does not run.
            empty = states.residual.new_zeros((len(slots), 1, 0, 1))
            cache.update(empty, empty, layer)
        self._site.continue_from(states.ids, states.residual, cache=cache)
        pairs = []
        for layer in cache.layers[self._site.layer + 1 :]:
            picked = []
            for whole in (layer.keys, layer.values):
                index = slots[:, None, :, None].expand(-1, whole.shape[1], -1, whole.shape[3])
                picked.append(whole.gather(2, index))
            pairs.append((picked[0], picked[1]))
        return pairs
