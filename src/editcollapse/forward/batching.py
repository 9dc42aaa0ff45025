"""Rows of different lengths in batches that hold little padding; loads no torch."""

from collections.abc import Sequence

_TOLERATED_PADDING = 0.03
"""Padded share above which a batch ends early."""
_ENOUGH_TOKENS = 512
"""Tokens below which a batch never ends early: fewer do not keep a device busy."""
_ENOUGH_SHARE = 8
"""One over the share of a full batch that is enough too, where batches are small."""


def length_batches(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Return the indices of rows, sorted by length, in batches of bounded padded tokens.

    A batch ends where one more row would take it over ``tokens_per_batch`` padded tokens; or,
    once it holds enough tokens, where that row would lift the padded share above 3 %. A row longer
    than ``tokens_per_batch`` is a batch by itself.

    Args:
        lengths: tokens of each row.
        tokens_per_batch: rows times the longest of them, at most.
    """
    enough = min(_ENOUGH_TOKENS, tokens_per_batch // _ENOUGH_SHARE)
    batches: list[list[int]] = []
    n_real = 0
    for index in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        length = lengths[index]
        if batches:
            padded = (len(batches[-1]) + 1) * length
            wasted = padded - n_real - length
            is_wasteful = n_real >= enough and wasted > _TOLERATED_PADDING * padded
            if padded <= tokens_per_batch and not is_wasteful:
                batches[-1].append(index)
                n_real += length
                continue
        batches.append([index])
        n_real = length
    return batches


def padded_tokens(lengths: Sequence[int], batch: Sequence[int]) -> int:
    """Return the tokens of a batch with its padding."""
    return len(batch) * max(lengths[index] for index in batch)


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Return the share of padding among the tokens that run; 0 where there are none."""
    padded = sum(padded_tokens(lengths, batch) for batch in batches)
    return 1 - sum(lengths) / padded if padded else 0.0
