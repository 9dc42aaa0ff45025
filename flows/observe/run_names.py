"""What a flow run is called: as whoever started it says, else its work and when it was due."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from prefect.context import FlowRunContext

_MADE_UP_OF = 2
"""Words in a name that a Prefect server makes up: an adjective and an animal."""


def dated(template: str) -> Callable[[], str]:
    """Return what names the runs of a flow, for its ``flow_run_name``.

    A name that was given to a run stays. Other runs are called by the template and the minute, in
    UTC, in which they were due: ``demo 2026-11-27 06:00``.

    Args:
        template: names parameters of the flow: ``forecast {study.name}``.
    """

    def run_name() -> str:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        assert context.parameters is not None
        run = context.flow_run
        if not is_made_up(run.name):
            return run.name
        due = run.expected_start_time or datetime.now(UTC)
        return f"{template.format(**context.parameters)} {due.astimezone(UTC):%Y-%m-%d %H:%M}"

    return run_name


def is_made_up(name: str) -> bool:
    """Return whether a Prefect server may have made up a run's name, since nobody gave one."""
    words = name.split("-")
    return len(words) == _MADE_UP_OF and all(
        word in known for word, known in zip(words, _made_up_of(), strict=True)
    )


@functools.cache
def _made_up_of() -> tuple[frozenset[str], frozenset[str]]:
    """Return the first and the second words of such names: Prefect takes them from coolname."""
    from coolname import data

    config: dict[str, Any] = data.config
    first, second = config["an"]["lists"]
    return frozenset(_words(config, first)), frozenset(_words(config, second))


def _words(config: dict[str, Any], name: str) -> set[str]:
    """Return all words of a list of coolname's, which may be a list of lists."""
    found = config[name]
    return {*found.get("words", ())}.union(
        *(_words(config, each) for each in found.get("lists", ()))
    )
