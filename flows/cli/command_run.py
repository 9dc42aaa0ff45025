"""A flow run from the command line: its progress bar, its log on the terminal, a lost server.

The terminal shows warnings, and says an error once: it is raised again where the flow is called, so
Prefect's own accounts of it stay on the run's page.
"""

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from editcollapse.cli.console import console, print_line, progress_shown
from editcollapse.errors import EditCollapseError
from editcollapse.visible import visible_lines
from flows.cli.output.console import shown
from flows.observe.compat import internal_logger

if TYPE_CHECKING:
    from editcollapse.study.results_folder import ResultsFolder

_RAISED_AGAIN = ("prefect.flow_runs", "prefect.task_runs")
"""Loggers of Prefect's engines: they log an error of a run and raise it as well."""


class ServerLostError(EditCollapseError, ConnectionError):
    """The Prefect server does not answer, or not sensibly."""


def run_watched(server: str, load: Callable[[], Any], *arguments: Any) -> Any | None:
    """Run a flow to its end and return its result.

    Args:
        server: the Prefect server in words.
        load: imports the flow and returns it: Prefect takes seconds, which the bar shows.
        arguments: the flow's own.

    Returns:
        The flow's result; None, which no flow of ours returns, where the server calls the run
        cancelled: that has been printed.

    Raises:
        ServerLostError: the server did not answer for longer than Prefect's client waits.
        EditCollapseError: as the flow.
    """
    with progress_shown("starting Prefect"):
        flow = load()
        _filter_terminal_log()
        try:
            state = flow(*arguments, return_state=True)
            if not (state.is_cancelled() or state.is_cancelling()):
                return state.result()
        except Exception as error:
            reason = _reason_of_loss(error)
            if reason is None:
                raise
            raise ServerLostError(
                f"{server} does not answer ({reason}). Finished work is kept: run the same command "
                "again once it does, or unset PREFECT_API_URL to have a temporary one."
            ) from error
    console(to_stderr=True).print(
        "the run was cancelled on the Prefect server, which stops none that a command started: it "
        "has done all its work. The same command prints what it found.",
        soft_wrap=True,
    )
    return None


def _reason_of_loss(error: BaseException) -> str | None:
    """Say why a server is lost; None where the error is of another kind."""
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    if isinstance(error, PrefectHTTPStatusError) and error.response.is_server_error:
        return f"HTTP status {error.response.status_code}"
    for found in (error, error.__cause__):  # at its start Prefect wraps it in a RuntimeError
        if isinstance(found, httpx.TransportError):
            return str(found) or type(found).__name__
    return None


def _filter_terminal_log() -> None:
    """Let the terminal show what is no error of a run, without tracebacks of Prefect's.

    To be called once Prefect has been imported: that sets up the handlers.
    """
    for handler in _terminal_handlers():
        handler.addFilter(_is_not_raised_again)
        handler.addFilter(_on_its_lines)


def _terminal_handlers() -> Iterator[logging.Handler]:
    """Yield the handlers of the terminal."""
    yield from logging.getLogger().handlers
    yield from logging.getLogger("prefect").handlers
    yield from internal_logger().handlers


def _is_not_raised_again(record: logging.LogRecord) -> bool:
    """Return whether a log record says more than the error that the command ends with."""
    return record.levelno < logging.ERROR or not record.name.startswith(_RAISED_AGAIN)


def _on_its_lines(record: logging.LogRecord) -> bool:
    """Write out a record's control characters; for Prefect's traceback, put the error's words."""
    message = record.getMessage()
    if record.exc_info and record.name.startswith("prefect"):
        message = f"{message}: {record.exc_info[1]}"
        record.exc_info = record.exc_text = None
    record.msg, record.args = visible_lines(message), ()
    return True


def run_flow(
    load: Callable[[], Any], what: str, folder: "ResultsFolder", *arguments: Any, is_quiet: bool
) -> Any | None:
    """Run a flow to its end, with a bar; its result, or None where it was stopped.

    Args:
        load: imports the flow and returns it.
        what: the flow's work in words, for the line that is printed before.
        folder: its results folder.
        arguments: the flow's own.
        is_quiet: whether nothing is printed to standard output.

    Raises:
        EditCollapseError: as the flow, or no server can be had.
    """
    from flows.observe import environment

    server = environment.prepare(folder.here)
    if not is_quiet:
        print_line(f"{what} with {server}; results in {shown(folder.name)}")
    return run_watched(server, load, *arguments)
