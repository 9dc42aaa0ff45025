"""What the head says of a label, without ever holding all logits.

A vocabulary of 50,257 makes 200 kB of logits a token, written and read several times by a softmax.
Here blocks of the vocabulary pass through the cache: each block's logits leave their largest
value and the sum of their exponentials, and are gone. The head's weights are read once for many
tokens.
"""

import torch
from torch import Tensor, nn

from editcollapse.models import LoadedModel, widened

_STATES = 2048
"""States that one product takes."""
_LOGITS_ON_CPU = 1 << 21
"""Logits of one block: 8 MB in float32, what a processor's cache holds."""
_LOGITS = 1 << 25
"""The same on an accelerator, where larger products are faster."""
_ALL_LOGITS = 1 << 24
"""Logits held at once where all of them are needed."""


@torch.no_grad()
def label_nll(loaded: LoadedModel, hidden: Tensor, labels: Tensor) -> Tensor:
    """Return -log p of each label, (M,), float32 or better, nats.

    Args:
        loaded: the model whose head reads the states.
        hidden: (M, D) states after the final norm.
        labels: int64 (M,).
    """
    head = loaded.model.get_output_embeddings()  # type: ignore[operator]
    budget = _LOGITS_ON_CPU if hidden.device.type == "cpu" else _LOGITS
    in_cache = loaded.widths.n_vocabulary * _STATES <= budget
    if in_cache or type(head) is not nn.Linear or loaded.caps_logits:
        size = _STATES if in_cache else states_per_head(loaded)
        pieces = zip(torch.split(hidden, size), torch.split(labels, size), strict=True)
        return torch.cat([_plain(loaded, states, goal) for states, goal in pieces])
    parts = []
    for states, goal in zip(
        torch.split(hidden, _STATES), torch.split(labels, _STATES), strict=True
    ):
        width = max(1, budget // len(states))
        largest = torch.full((len(states),), -torch.inf, device=hidden.device)
        largest = largest.to(widened(states))
        total = torch.zeros_like(largest)
        wanted = torch.zeros_like(largest)
        bias: Tensor | None = head.bias
        for start in range(0, len(head.weight), width):
            block = slice(start, start + width)
            some = None if bias is None else bias[block]
            logits = widened(nn.functional.linear(states, head.weight[block], some))
            above = torch.maximum(largest, logits.amax(dim=1))
            here = goal - start
            inside = (here >= 0) & (here < logits.shape[1])
            found = logits.gather(1, here.clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
            wanted = torch.where(inside, found, wanted)
            total *= (largest - above).exp()
            total += logits.sub_(above[:, None]).exp_().sum(dim=1)
            largest = above
        parts.append(largest + total.log() - wanted)
    return torch.cat(parts)


def states_per_head(loaded: LoadedModel) -> int:
    """Return how many states the head may read at once where all logits are needed."""
    return max(1, _ALL_LOGITS // max(1, loaded.widths.n_vocabulary))


def _plain(loaded: LoadedModel, states: Tensor, labels: Tensor) -> Tensor:
    """Return -log p of each label from all logits."""
    logits = widened(loaded.logits(states))
    torch.log_softmax(logits, dim=-1, out=logits)  # in place: fresh memory costs more than the sum
    return -logits.gather(1, labels[:, None])[:, 0]
