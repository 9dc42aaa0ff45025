"""Independent edits: each row of a batch carries its own rank-one update; weights stay as they are.

``(W + left rightᵀ) k = W k + left (right · k)``, so an edited layer's value changes by
``left (right · k)`` at every token and nothing else does.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from editcollapse.models import LoadedModel, widened
from editcollapse.sites import EditSite, SiteStates
from editcollapse.updates import RankOneUpdates


@torch.no_grad()
def edited_residual(site: EditSite, states: SiteStates, updates: RankOneUpdates) -> Tensor:
    """Return the residual after the layer for every edit on every row, (E·N, T, D).

    Args:
        site: the edited layer.
        states: unedited states of N rows.
        updates: E updates; row e·N + n of the result is row n under update e.
    """
    dots = widened(states.key) @ updates.right.to(widened(states.key)).T  # (N, T, E)
    by_edit = dots.permute(2, 0, 1)[..., None]  # (E, N, T, 1)
    left = updates.left.to(dots)[:, None, None, :]
    if not site.reads_value and states.residual.dtype == dots.dtype:
        return torch.addcmul(states.residual, by_edit, left).flatten(0, 1)  # in one pass
    residual = states.residual.repeat(len(updates), 1, 1)
    value = states.value.repeat(len(updates), 1, 1) if site.reads_value else states.value
    return site.add_to_value(residual, value, (by_edit * left).flatten(0, 1))


@torch.no_grad()
def edited_residual_by_row(
    site: EditSite, states: SiteStates, updates: RankOneUpdates, owner: Tensor
) -> Tensor:
    """Return the residual after the layer where each row has its own update, (N, T, D).

    Args:
        site: the edited layer.
        states: unedited states of N rows.
        updates: E updates.
        owner: int64 (N,): each row's update.
    """
    key = widened(states.key)
    right, left = (part.to(key)[owner] for part in (updates.right, updates.left))
    dots = torch.einsum("ntk,nk->nt", key, right)
    return site.add_to_value(states.residual, states.value, dots[..., None] * left[:, None, :])


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
