"""Plans of the command that runs: each study is planned once, however often it is asked for."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

KEPT: ContextVar[list[Any] | None] = ContextVar("plans of the command that runs", default=None)
"""What ``plan.plan_study`` has planned; None outside of ``cached_plans``."""


@contextlib.contextmanager
def cached_plans() -> Iterator[None]:
    """Plan each study once in the block, however often it is asked for.

    For a command: what it has checked before a server starts is what its flow runs. A process that
    runs flow after flow reads the inputs of each anew.
    """
    token = KEPT.set([])
    try:
        yield
    finally:
        KEPT.reset(token)
