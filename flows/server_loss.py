"""A Prefect server that does not answer is told in one sentence, at the start and in the middle.

Prefect's client asks again for some minutes before it gives up, so that a server that is started
again in time costs a study nothing.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.exceptions import PrefectHTTPStatusError

from editcollapse.errors import EditCollapseError

_UNREACHED = "Failed to reach API"
"""How Prefect's own error begins where a server does not answer from the start."""


class ServerLostError(EditCollapseError, ConnectionError):
    """The Prefect server does not answer, or not sensibly."""


@contextmanager
def needing(server: str) -> Iterator[None]:
    """Turn the loss of the server, for the block, into a sentence.

    Args:
        server: the server in words.

    Raises:
        ServerLostError: the server did not answer for longer than Prefect's client waits.
    """
    try:
        yield
    except Exception as error:
        reason = reason_of_loss(error)
        if reason is None:
            raise
        raise ServerLostError(
            f"{server} does not answer ({reason}). Finished work is kept: run the same command "
            "again once it does, or unset PREFECT_API_URL to have a temporary one."
        ) from error


def reason_of_loss(error: BaseException | None) -> str | None:
    """Return in words why a server is lost; None where the error is of another kind."""
    if isinstance(error, httpx.TransportError):
        return str(error) or type(error).__name__
    if isinstance(error, PrefectHTTPStatusError) and error.response.is_server_error:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, RuntimeError) and str(error).startswith(_UNREACHED):
        return "it was not reached"
    return None


def is_of_loss(record: logging.LogRecord) -> bool:
    """Return whether a log record tells of a lost server, which the command tells itself."""
    return reason_of_loss(record.exc_info[1] if record.exc_info else None) is not None
