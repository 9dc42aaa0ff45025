"""When C is looked at while its shards arrive, and when it has settled; loads no torch."""

from collections.abc import Sequence

_CONSECUTIVE = 2
"""Checkpoints in a row whose change must be small."""


def checkpoints(n_shards: int) -> tuple[int, ...]:
    """Return the shard counts after which directions are compared: 1, 2, 4, 8, ..., ``n_shards``.

    Each compares with half the tokens, so a change means the same whatever the size of the shards;
    and a thousand shards take eleven solves.
    """
    doubled = [1 << power for power in range(n_shards.bit_length()) if 1 << power < n_shards]
    return (*doubled, n_shards)


def has_settled(changes: Sequence[float | None], stop_change: float) -> bool:
    """Return whether the last two changes are below a bound.

    Args:
        changes: largest change over the probes at each checkpoint so far; None where unknown.
        stop_change: the bound.
    """
    last = changes[-_CONSECUTIVE:]
    known = [change for change in last if change is not None and change < stop_change]
    return len(known) == _CONSECUTIVE
