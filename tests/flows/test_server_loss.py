"""A server that does not answer is one sentence, and repeated trouble of Prefect's one line."""

import logging

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError

from flows.prefect_log import OncePerCause
from flows.server_loss import ServerLostError, is_of_loss, needing, reason_of_loss

_URL = "http://127.0.0.1:4200/api"


def _status(code: int) -> PrefectHTTPStatusError:
    request = httpx.Request("POST", _URL)
    response = httpx.Response(code, request=request)
    return PrefectHTTPStatusError("failed", request=request, response=response)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "[Errno 111] Connection refused"),
        (httpx.ReadTimeout(""), "ReadTimeout"),
        (_status(503), "HTTP status 503"),
        (_status(404), None),
        (RuntimeError("Failed to reach API at http://x"), "it was not reached"),
        (RuntimeError("something else"), None),
        (ValueError("our own mistake"), None),
        (None, None),
    ],
)
def test_only_loss_is_loss(error, reason):
    """A mistake of ours keeps its traceback."""
    assert reason_of_loss(error) == reason
    record = logging.LogRecord("prefect", logging.ERROR, "", 0, "x", (), None)
    record.exc_info = None if error is None else (type(error), error, None)
    assert is_of_loss(record) == (reason is not None)


def test_loss_is_one_sentence():
    """It names the server and the reason, and says that nothing is lost and what to do."""
    with (
        pytest.raises(ServerLostError, match=r"at x does not answer \(refused\)\. Finished"),
        needing("Prefect server at x"),
    ):
        raise httpx.ConnectError("refused")


def test_other_errors_pass():
    """The block does not touch what is no loss."""
    with pytest.raises(KeyError), needing("a server"):
        raise KeyError("x")


def _record(message: str, error: Exception | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    return logging.LogRecord("prefect", logging.ERROR, "", 0, message, (), info)


def test_records_that_cannot_be_written_are_told_once(caplog):
    """A full disk gives one line for all tasks, with what it means; another cause its own."""
    causes = OncePerCause()
    begins = "An error was encountered while committing transaction 'edits-1'"
    for _ in range(3):
        assert not causes.filter(_record(begins, OSError(28, "No space left on device")))
    assert not causes.filter(_record(begins, OSError(30, "Read-only file system")))
    assert causes.filter(_record(begins, ValueError("a mistake")))
    lines = [line for line in caplog.messages if "cannot keep records" in line]
    assert len(lines) == 2
    assert "No space left on device. The results are complete" in lines[0]


def test_lost_events_are_told_once():
    """While the server is away the terminal says so once, without a page for each event."""
    causes = OncePerCause()
    away = "Unable to connect to 'ws://127.0.0.1:9/api/events/in'."
    assert causes.filter(_record(away))
    assert not causes.filter(_record(away))
    assert not causes.filter(_record("Service 'EventsWorker' failed to process item Event(...)"))
    assert causes.filter(_record("something else"))
