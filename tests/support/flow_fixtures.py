"""One small study, and a Prefect server for runs in this process and in others.

Loads neither torch nor Prefect by itself: tests of every folder share these fixtures.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.flow_runs import Run

_START_S = 120.0
"""A server on two busy cores needs half a minute for its migrations."""


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the small study; its inputs are not to be changed."""
    from tests.support.small_study import write_study

    return write_study(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return a function that makes a home of Prefect whose database needs no migration.

    Migrations take ten seconds: one process of the tests does them, for all.
    """
    from filelock import FileLock

    root = tmp_path_factory.getbasetemp()
    shared = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    migrated = shared / "migrated"

    def home() -> Path:
        with FileLock(shared / "migrated.lock"):
            if not migrated.exists():
                draft = tmp_path_factory.mktemp("draft")
                command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
                upgraded = subprocess.run(
                    command,
                    env=os.environ | {"PREFECT_HOME": str(draft)},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert upgraded.returncode == 0, upgraded.stderr
                draft.rename(migrated)
        return shutil.copytree(migrated, tmp_path_factory.mktemp("prefect"), dirs_exist_ok=True)

    return home


@pytest.fixture(scope="session")
def backend(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let flows run in this process, against the server of the tests."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )

    settings = {
        PREFECT_HOME: tmp_path_factory.mktemp("prefect"),
        PREFECT_API_URL: server,
        # Joining the heartbeat's thread takes a second at the end of each run.
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with temporary_settings(settings):
        yield


@pytest.fixture(scope="session")
def run_study(backend: None) -> Callable[[Path, Path], Run]:
    """Return a function that runs a study file to a results folder."""
    from tests.support.flow_runs import run_in_process

    return run_in_process


@pytest.fixture(scope="session")
def first_run(
    study: Path,
    run_study: Callable[[Path, Path], Run],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """Return an uninterrupted run of the small study; its folder is not to be changed."""
    return run_study(study, tmp_path_factory.mktemp("uninterrupted") / "results")


@pytest.fixture
def results(first_run: Run, tmp_path: Path) -> Path:
    """Return a copy of a finished study's results, at another place."""
    return shutil.copytree(first_run.results, tmp_path / "moved", copy_function=shutil.copy2)


@pytest.fixture(scope="session")
def server(prefect_home: Callable[[], Path]) -> Iterator[str]:
    """Return the API's address of a server started for the tests."""
    with prefect_server(prefect_home(), acts=False) as url:
        yield url


@contextlib.contextmanager
def prefect_server(home: Path, *, acts: bool) -> Iterator[str]:
    """Serve Prefect's API for the block; give its address.

    Args:
        home: a folder of its own.
        acts: whether its automations do anything.
    """
    from tests.support.flow_runs import REPOSITORY, free_port

    port = free_port()
    environment = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
        # Whole seconds: a fraction is cut to 0, and the server then spins.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": str(acts).lower(),
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env=environment,
            cwd=REPOSITORY,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}/api"
    try:
        wait_for_server(f"{url}/health", process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_server(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own server
                answer.read()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    pytest.fail("the Prefect server of the tests did not start")
