"""Private names of Prefect that flows and commands call, each in one function.

No public name does the same. Seen with Prefect 3.8.8; a release that changes one of them is met
here. Prefect itself is imported by the caller: a command that plans or asks does without it.
"""

import atexit
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.task_runners import ThreadPoolTaskRunner


def number_of_threads(runner: "ThreadPoolTaskRunner[Any]") -> int | None:
    """Threads of a task runner; Prefect 3.8 keeps ``max_workers`` under a private name alone."""
    return runner._max_workers  # noqa: SLF001


def result_of(state: Any) -> Any:
    """Result of a finished run, read on this thread; raises what the run raised.

    Prefect 3.8: where an event loop runs, ``State.result()`` is a coroutine, unless its private
    parameter ``_sync`` says otherwise.
    """
    return state.result(_sync=True)


def internal_logger() -> logging.Logger:
    """Logger of Prefect's own machinery, to which Prefect 3.8 gives handlers of its own."""
    return logging.getLogger("prefect._internal")


def stop_temporary_server() -> None:
    """Stop the server that Prefect has started for this process, and run all other exit functions.

    Prefect 3.8 stops it by ``atexit`` and has no public name for it; so whoever leaves by
    ``os._exit`` runs Python's own list first.
    """
    atexit._run_exitfuncs()  # noqa: SLF001
