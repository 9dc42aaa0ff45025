"""A flow run from the command line: a lost server in one sentence, errors said once."""

import logging

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError

from editcollapse.errors import ModelError
from flows.cli.command_run import (
    ServerLostError,
    _is_not_raised_again,
    _on_its_lines,
    run_watched,
)

_URL = "http://127.0.0.1:4200/api"


def _status(code: int) -> PrefectHTTPStatusError:
    request = httpx.Request("POST", _URL)
    response = httpx.Response(code, request=request)
    return PrefectHTTPStatusError("failed", request=request, response=response)


def _at_start() -> RuntimeError:
    error = RuntimeError("whatever Prefect says here")
    error.__cause__ = httpx.ConnectError("refused")
    return error


def _run(error: Exception) -> None:
    def flow(**_: object) -> None:
        raise error

    run_watched("Prefect server at x", lambda: flow)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "[Errno 111] Connection refused"),
        (httpx.ReadTimeout(""), "ReadTimeout"),
        (_status(503), "HTTP status 503"),
        (_at_start(), "refused"),
    ],
)
def test_lost_server_is_one_sentence(error, reason):
    """It names the server and the reason, and says that nothing is lost and what to do."""
    with pytest.raises(ServerLostError) as found:
        _run(error)
    said = str(found.value)
    assert said.startswith(f"Prefect server at x does not answer ({reason}). Finished work is kept")


@pytest.mark.parametrize("error", [_status(404), RuntimeError("x"), ValueError("ours")])
def test_other_errors_pass(error):
    """A mistake of ours keeps its class and traceback."""
    with pytest.raises(type(error)) as found:
        _run(error)
    assert found.value is error


def test_run_that_the_server_calls_cancelled_has_no_result(capsys):
    """Nothing is printed as its result; the sentence says that the work is done."""
    from prefect.states import Cancelling

    assert run_watched("a server", lambda: lambda **_: Cancelling()) is None
    assert "it has done all its work" in capsys.readouterr().err


def _record(name: str, level: int, error: Exception | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    return logging.LogRecord(name, level, "", 0, "it %s", ("failed",), info)


@pytest.mark.parametrize(
    ("logger", "level", "is_shown"),
    [
        ("prefect.task_runs", logging.ERROR, False),
        ("prefect.flow_runs", logging.ERROR, False),
        ("prefect.task_runs", logging.WARNING, True),
        ("prefect.transactions", logging.ERROR, True),
        ("flows.run.study_run", logging.ERROR, True),
    ],
)
def test_terminal_leaves_out_what_is_raised(logger, level, is_shown):
    """Only what Prefect's engines say of an error that the command ends with is left out."""
    assert _is_not_raised_again(_record(logger, level, ModelError("no layer"))) is is_shown


def test_tracebacks_of_prefect_become_words():
    """A record that cannot be written is a line with its reason; our own traceback stays."""
    theirs = _record("prefect.transactions", logging.ERROR, OSError(28, "No space left on device"))
    assert _on_its_lines(theirs)
    assert theirs.getMessage() == "it failed: [Errno 28] No space left on device"
    assert theirs.exc_info is None
    ours = _record("editcollapse.x", logging.ERROR, KeyError("x"))
    assert _on_its_lines(ours)
    assert ours.exc_info is not None
