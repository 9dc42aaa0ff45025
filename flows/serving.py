"""A Prefect server, one worker and the reports' pages, from one command until a signal ends it."""

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from types import FrameType

from editcollapse.errors import ResultsError
from flows import surroundings
from flows.addresses import LOOPBACK, PASSWORD, ServeError, check_host, check_port, reachable
from flows.child_processes import ChildProcess, Program
from flows.cli.console import console, shown
from flows.deployment_files import ROOT, read_deployment_file

HOME = Path("server")
"""Folder below the results folder with the server's database and all logs."""
REPORTS = Path("reports")
"""Folder below the results folder with the studies' pages."""
REPORTS_VARIABLE = "EDITCOLLAPSE_REPORTS_URL"
"""Tells flows where those pages are served."""
_START_S = 180.0
_LOOK_S = 0.5
_AGAIN_S = 5.0
"""A worker that ended is started again so much later."""
_SHORT_S = 30.0
_SHORT_LIVES = 3
"""So many workers in a row that lived no longer than that: something is wrong."""


def serve_until_stopped(host: str, port: int, results: Path) -> int:
    """Run server, worker and pages; return 0 once SIGINT or SIGTERM has come and all have ended.

    Args:
        host: address that the server listens on.
        port: its port; the pages of ``results/reports`` are served on the next one.
        results: the results folder; the server's database and logs lie below it.

    Raises:
        ServeError: the address is open to others without a password, a port is taken, or the
            server does not start or has ended.
        ResultsError: the results folder cannot be written.
    """
    check_host(host)
    for each, address in ((port, host), (port + 1, LOOPBACK)):
        check_port(address, each)
    home, reports = results / HOME, results / REPORTS
    _make(home, reports)
    pages = f"http://{LOOPBACK}:{port + 1}"
    api = f"http://{reachable(host)}:{port}/api"
    environment = _environment(home, api, pages)
    server, worker, files = _programs(host, port, home, reports, environment)
    screen = console()
    with _signals() as stopped, ExitStack() as stack:
        running = ChildProcess(server)
        stack.callback(running.stop)
        _wait_until_healthy(running, api, stopped)
        if not stopped.is_set():
            page_server = ChildProcess(files)
            stack.callback(page_server.stop)
            screen.print(f"Prefect server: {api.removesuffix('/api')}", soft_wrap=True)
            screen.print(f"reports:        {pages}  (of {shown(reports)})", soft_wrap=True)
            screen.print(f"database, logs: {shown(home)}", soft_wrap=True)
            screen.print(_hint(api, results), soft_wrap=True)
            _watch(worker, (running, page_server), stopped)
        screen.print("stopping; a run that is cut short goes on from there when it runs again")
    return 0


def _watch(worker: Program, others: Sequence[ChildProcess], stopped: Event) -> None:
    """Keep a worker running for as long as the others do, until a signal comes.

    Raises:
        ServeError: one of the others has ended, or workers end at once.
    """
    screen = console()
    short_lives = 0
    while not stopped.is_set():
        own = ChildProcess(worker)
        try:
            screen.print(f"worker:         started, {worker.name}, one flow run at a time")
            while own.status is None and not stopped.wait(_LOOK_S):
                for other in others:
                    if other.status is not None:
                        raise _ended(other)
        finally:
            own.stop()
        if stopped.is_set():
            return
        lived = time.monotonic() - own.started_at
        short_lives = short_lives + 1 if lived < _SHORT_S else 0
        if short_lives >= _SHORT_LIVES:
            raise _ended(own)
        screen.print(
            f"the worker ended with status {own.status} after {lived:.0f} s; starting another in "
            f"{_AGAIN_S:.0f} s (log: {shown(worker.log)})",
            soft_wrap=True,
        )
        stopped.wait(_AGAIN_S)


def _make(home: Path, reports: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        reports.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(
            f"cannot write to the results folder {home.parent}: {error.strerror}. "
            "Choose another with --results."
        ) from error


def _environment(home: Path, api: str, pages: str) -> dict[str, str]:
    """Return what the processes are started with; what the user has set stays."""
    surroundings.prepare_for_server()
    own = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        REPORTS_VARIABLE: pages,
        "PYTHONUNBUFFERED": "1",
    }
    password = os.environ.get(PASSWORD)
    if password:
        own["PREFECT_API_AUTH_STRING"] = password
    return dict(os.environ) | own


def _programs(
    host: str, port: int, home: Path, reports: Path, environment: Mapping[str, str]
) -> tuple[Program, Program, Program]:
    """Return server, worker and page server."""
    pool = read_deployment_file().pool
    prefect = (sys.executable, "-m", "prefect")
    server = (*prefect, "server", "start", "--host", host, "--port", str(port))
    worker = (*prefect, "worker", "start", "--pool", pool.name, "--type", pool.type)
    files = (sys.executable, "-m", "http.server", str(port + 1), "--bind", LOOPBACK)
    files_of_reports = (*files, "--directory", str(reports))
    return (
        Program("server", server, environment, home / "server.log"),
        Program(f"pool {pool.name}", (*worker, "--limit", "1"), environment, home / "worker.log"),
        Program("page server", files_of_reports, environment, home / "reports.log"),
    )


def _wait_until_healthy(server: ChildProcess, api: str, stopped: Event) -> None:
    """Wait until the server answers, or a signal comes."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if server.status is not None:
            raise _ended(server)
        try:
            with urllib.request.urlopen(f"{api}/health", timeout=5):  # noqa: S310  our own server
                return
        except (urllib.error.URLError, OSError):
            if stopped.wait(_LOOK_S):
                return
    raise ServeError(
        f"the Prefect server did not answer within {_START_S:.0f} s. Its log is "
        f"{server.program.log}."
    )


def _ended(process: ChildProcess) -> ServeError:
    return ServeError(
        f"the {process.program.name} ended with status {process.status}. The end of its log, "
        f"{process.program.log}:\n{process.last_words()}"
    )


def _hint(api: str, results: Path) -> str:
    at = "" if results == ROOT / "results" else f" --results {shown(results)}"
    return f"deployments:    PREFECT_API_URL={api} python -m flows deploy{at}"


@contextmanager
def _signals() -> Iterator[Event]:
    """Give an event that is set when SIGINT or SIGTERM comes in the block.

    A handler of our own also undoes what a shell does to programs that it starts with &: they
    ignore SIGINT and so would their children, and a worker then does not stop when it is asked.
    """
    stopped = Event()

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        stopped.set()

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
