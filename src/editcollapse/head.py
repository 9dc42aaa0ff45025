"""What the head says of a label, never holding the logits of many states at once."""

import torch
from torch import Tensor

from editcollapse.budgets import LOGITS
from editcollapse.models import LoadedModel, widened

_LOGITS_ON_CPU = 6 << 20
"""Logits of one product: more leave a processor's cache before they are summed."""
_STATES = 2048
"""States of one product at most."""


@torch.no_grad()
def label_nll(loaded: LoadedModel, hidden: Tensor, labels: Tensor) -> Tensor:
    """Return -log p of each label, (M,), float32 or better, nats.

    Args:
        loaded: the model whose head reads the states.
        hidden: (M, D) states after the final norm.
        labels: int64 (M,).
    """
    budget = _LOGITS_ON_CPU if hidden.device.type == "cpu" else LOGITS
    size = max(1, min(_STATES, budget // max(1, loaded.widths.n_vocabulary)))
    parts = []
    for states, goal in zip(torch.split(hidden, size), torch.split(labels, size), strict=True):
        logits = widened(loaded.logits(states))
        # In place: fresh memory costs more than the sum.
        torch.log_softmax(logits, dim=-1, out=logits)
        parts.append(-logits.gather(1, goal[:, None])[:, 0])
        del logits  # not kept while the next are made
    return torch.cat(parts)


def states_per_head(loaded: LoadedModel) -> int:
    """Return how many states the head may read at once where all logits are needed."""
    return max(1, LOGITS // max(1, loaded.widths.n_vocabulary))
