"""The published perplexity and second moment, written plainly after their public code.

Sources: Collapse-in-Model-Editing ppl.py; kmeng01/rome layer_stats and runningstats.

Letters: N texts, T tokens, K width of the MLP.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.published import Published, padded, wide

_PPL_BATCH = 10
"""Texts in one forward (Collapse-in-Model-Editing, ``ppl_batch_size``)."""
_GROUP = 100
"""Documents that are sorted by length together (layer_stats)."""
_WIDTHS_PER_BATCH = 3
"""Padded tokens of one batch of documents, in units of the model's positions (layer_stats)."""


@torch.no_grad()
def text_nll(published: Published, rows: Sequence[Sequence[int]]) -> Tensor:
    """Return the mean token NLL of each text, float64 (N,) on the CPU, nats.

    The set is padded to its longest text and runs in batches of 10 with a mask; logits and losses
    are computed at every position.

    Source: Collapse-in-Model-Editing ppl.py.
    """
    ids, mask = padded(rows, published.device)
    parts = []
    for first in range(0, len(ids), _PPL_BATCH):
        some, real = ids[first : first + _PPL_BATCH], mask[first : first + _PPL_BATCH]
        logits = published.model(input_ids=some, attention_mask=real, use_cache=False).logits
        shifted = logits[:, :-1].contiguous()
        loss = F.cross_entropy(shifted.transpose(1, 2), some[:, 1:], reduction="none")
        scored = real[:, 1:]
        parts.append((wide(loss) * scored).sum(dim=1) / scored.sum(dim=1))
    return torch.cat(parts).double().cpu()


@torch.no_grad()
def second_moment(published: Published, rows: Iterable[Sequence[int]]) -> tuple[Tensor, int]:
    """Return the mean of k kᵀ over all tokens, (K, K) float32 or better, and their number.

    Documents are sorted by length in groups of 100 and padded in batches of at most three times
    the model's positions; the forward stops after the layer.

    Source: layer_stats; SecondMoment of its runningstats.
    """
    total: Tensor | None = None
    n_tokens = 0
    documents = iter(rows)
    while group := list(islice(documents, _GROUP)):
        for batch in _batches(group, _WIDTHS_PER_BATCH * published.n_positions):
            ids, mask = padded(batch, published.device)
            keys = _stopped_keys(published, ids, mask)[mask.bool()]
            keys = wide(keys)
            total = keys.new_zeros((keys.shape[1], keys.shape[1])) if total is None else total
            total += keys.T @ keys
            n_tokens += len(keys)
    assert total is not None, "no documents"
    return total / n_tokens, n_tokens


def tokenised(
    encode: Callable[[str], tuple[int, ...]], documents: Iterable[str], length: int, n_tokens: int
) -> Iterator[tuple[int, ...]]:
    """Yield documents in tokens, cut to a length, until exactly ``n_tokens`` are given.

    The public code counts documents, not tokens; the budget is ours, so that both sides sum the
    same tokens.
    """
    left = n_tokens
    for document in documents:
        ids = encode(document)[: min(length, left)]
        if ids:
            yield ids
        left -= len(ids)
        if left <= 0:
            return


class _StopForwardError(Exception):
    """Ends a forward behind the layer."""


def _stopped_keys(published: Published, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the keys of every token, (N, T, K); nothing above the projection runs."""
    seen: list[Tensor] = []

    def stop(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        seen.append(inputs[0])
        raise _StopForwardError

    with published.projection.register_forward_hook(stop), suppress(_StopForwardError):
        published.model(input_ids=ids, attention_mask=mask, use_cache=False)
    return seen[0]


def _batches(group: list[Sequence[int]], budget: int) -> Iterator[list[Sequence[int]]]:
    """Yield a group's documents by length, in batches of at most ``budget`` padded tokens."""
    batch: list[Sequence[int]] = []
    for row in sorted(group, key=len, reverse=True):
        if batch and (len(batch) + 1) * len(batch[0]) > budget:
            yield batch
            batch = []
        batch.append(row)
    yield batch
