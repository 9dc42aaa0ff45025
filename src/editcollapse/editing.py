"""Independent edits: each row of a batch carries its own rank-one update; weights stay as they are.

``(W + left rightᵀ) k = W k + left (right · k)``, so an edited layer's value changes by
``left (right · k)`` at every token and nothing else does.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from editcollapse.models import LoadedModel, widened
from editcollapse.moved_entry import RankOneEntry
from editcollapse.sites import EditSite, SiteStates
from editcollapse.updates import RankOneUpdates


class EditedRows:
    """Rows under many independent edits: what no edit changes is worked out once.

    Args:
        site: the edited layer.
        states: unedited states of N rows of T tokens.
    """

    @torch.no_grad()
    def __init__(self, site: EditSite, states: SiteStates) -> None:
        self._site = site
        # Only what is read again: the states themselves may go.
        self._residual = states.residual
        self._value = states.value if site.reads_value else None
        self._key = widened(states.key)
        self._entry: RankOneEntry | None = None
        # An edit moves the residual along one direction, unless a norm stands between the value
        # and the stream. Half types round each product: there a sum of two is another number.
        is_exact = states.residual.dtype in {torch.float32, torch.float64}
        if site.n_above and is_exact and not site.reads_value:
            self._entry = RankOneEntry(site.entry, states.residual)

    @torch.no_grad()
    def unedited(self) -> Tensor:
        """Return the states after the final norm, (N, T, D)."""
        return self._site.continue_from(self._residual)

    @torch.no_grad()
    def under_each(self, updates: RankOneUpdates) -> Tensor:
        """Return the states after the final norm of every row under every update, (E·N, T, D).

        Args:
            updates: E updates; row e·N + n of the result is row n under update e.
        """
        start, site, n_edits = self._residual, self._site, len(updates)
        dots = updates.right.to(self._key) @ self._key.flatten(0, 1).T
        dots = dots.view(n_edits, *start.shape[:2])  # (E, N, T)
        left = updates.left.to(dots)
        change = dots[..., None], left[:, None, None, :]
        if self._value is None and start.dtype == dots.dtype:
            residual = torch.addcmul(start, *change).flatten(0, 1)  # in one pass
        else:
            value = None if self._value is None else self._value.repeat(n_edits, 1, 1)
            residual = site.add_to_value(
                start.repeat(n_edits, 1, 1), value, (change[0] * change[1]).flatten(0, 1)
            )
        return self._run(residual, dots, left, None)

    @torch.no_grad()
    def under_own(self, updates: RankOneUpdates, owner: Tensor) -> Tensor:
        """Return the states after the final norm where each row has its own update, (N, T, D).

        Args:
            updates: E updates.
            owner: int64 (N,): each row's update.
        """
        dots = torch.einsum("ntk,nk->nt", self._key, updates.right.to(self._key)[owner])
        left = updates.left.to(dots)
        change = dots[..., None] * left[owner, None]
        residual = self._site.add_to_value(self._residual, self._value, change)
        del change  # not kept while the blocks run
        return self._run(residual, dots, left, owner)

    def _run(self, residual: Tensor, dots: Tensor, left: Tensor, owner: Tensor | None) -> Tensor:
        """Run the blocks above on edited residuals, most of the first one's entry known."""
        if self._entry is None:
            return self._site.continue_from(residual)
        rows = residual.shape[:2]
        outputs = self._entry.outputs(dots, left, owner)
        entry = self._site.entry.given([each.view(*rows, each.shape[-1]) for each in outputs])
        del outputs  # the entry holds them until they are read
        return self._site.continue_from(residual, entry=entry)


@contextmanager
def written_into_weights(
    loaded: LoadedModel, layer: int, updates: RankOneUpdates, index: int
) -> Iterator[None]:
    """Write one update into the weights, and put the saved weights back at the end.

    For checks and export only: studies never write to weights.
    """
    weight = loaded.weight(layer)
    saved = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.add_(updates.matrix(index).to(weight))
        yield
    finally:
        with torch.no_grad():
            weight.copy_(saved)
