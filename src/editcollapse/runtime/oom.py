"""Out-of-memory split: a group of work that does not fit is halved and run again.

A batch size is an estimate (``memory``), and other programs use the same device. A group that
does not fit is split in two; finished groups stay, and later groups are cut before they run.
Calls may be nested: a group of one that fails inside is a group that does not fit outside.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch

from editcollapse.runtime.devices import device_memory_error, is_out_of_memory, release

logger = logging.getLogger(__name__)


Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(slots=True)
class GroupLimit:
    """The largest group that may run; shared by the groups of one call."""

    device: torch.device
    what: str
    """One item, for messages: ``v* of one edit``."""
    tokens: int | None = None
    """Padded tokens of a group at most; None until a group has failed."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Done(Generic[Result]):
    result: Result


def oom_split(
    items: Sequence[Item],
    run: Callable[[Sequence[Item]], Result],
    limit: GroupLimit,
    tokens: Callable[[Sequence[Item]], int] = len,
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Yield groups of items in order, each with its result: one group if all of them fit.

    Args:
        items: a list, or ``range(n)`` where work is asked for by index.
        run: computes one group; it must leave nothing half done when it fails.
        limit: made by the caller, once for all its groups; lowered here.
        tokens: padded tokens of a group.

    Raises:
        DeviceMemoryError: a group of one item does not fit.
    """
    waiting = [items]
    while waiting:
        group = waiting.pop()
        size = tokens(group)
        if len(group) > 1 and limit.tokens is not None and size > limit.tokens:
            waiting += _two(group)
            continue
        found = _attempt(run, group)
        if isinstance(found, str):
            # Here the error is gone, and with it the frames that held the group's tensors.
            release(limit.device)
            if len(group) == 1:
                asked = f"1 item of {size} padded tokens: {found}"
                raise device_memory_error(limit.what, asked, limit.device)
            limit.tokens = max(1, size // 2)
            logger.warning(
                "%s: out of memory on %s with %d items, %d tokens; from now on %d tokens at most",
                limit.what,
                limit.device,
                len(group),
                size,
                limit.tokens,
            )
            waiting += _two(group)
            continue
        yield group, found.result
        del found  # not kept while the next group runs


def _attempt(run: Callable[[Sequence[Item]], Result], group: Sequence[Item]) -> _Done[Result] | str:
    """Return the result, or the first line of the error where the device is full."""
    try:
        return _Done(run(group))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return (str(error).strip() or type(error).__name__).splitlines()[0]


def _two(group: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """Return the second and the first half of a group: the first is taken from the end."""
    middle = (len(group) + 1) // 2
    return group[middle:], group[:middle]
