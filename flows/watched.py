"""A flow run from a command: progress bar, mistakes told once, a lost server in one sentence."""

from collections.abc import Callable
from typing import Any

from flows.cli.console import progress_bar, tell_cancelled, tell_mistakes_once


def run_watched(server: str, load: Callable[[], Any], *arguments: Any) -> Any | None:
    """Run a flow to its end and return its result.

    Args:
        server: the Prefect server in words.
        load: imports the flow and returns it: Prefect takes seconds, which the bar shows.
        arguments: the flow's own.

    Returns:
        The flow's result; None, which no flow of ours returns, where the run was cancelled: that
        has been told.

    Raises:
        ServerLostError: the server does not answer any more.
        EditCollapseError: as the flow.
    """
    with progress_bar():
        flow = load()
        from flows.server_loss import needing

        tell_mistakes_once()
        with needing(server):
            state = flow(*arguments, return_state=True)
            if not state.is_cancelled():
                return state.result()
    tell_cancelled()
    return None
