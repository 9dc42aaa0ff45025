"""The Prefect server is killed in the middle of a study: a sentence, and the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.__main__ import USER_ERROR
from tests.support.flow_fixtures import wait_for_server
from tests.support.flow_runs import (
    REPOSITORY,
    assert_equal_tables,
    command,
    environment,
    free_port,
    manifests,
    run_command,
)

pytestmark = [pytest.mark.slow, pytest.mark.server]
_WAIT_S = 120.0


def _server(home: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a server that keeps its database in a folder, and wait until it answers."""
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    start = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    with (home / "log").open("a") as log:
        process = subprocess.Popen(
            [*start, "--port", str(port)],
            env=os.environ | settings,
            cwd=REPOSITORY,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    wait_for_server(f"http://127.0.0.1:{port}/api/health", process)
    return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_server_that_dies_costs_no_finished_work(study, first_run, tmp_path):
    """Exit status 2 and one sentence; with the server back, the same command finishes."""
    home, results, port = tmp_path / "server", tmp_path / "results", free_port()
    home.mkdir()
    # Prefect's client would try for minutes: once is enough to see what happens then.
    settings = {
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_CLIENT_MAX_RETRIES": "1",
    }
    server = _server(home, port)
    try:
        run = subprocess.Popen(
            command("run", study, "--results", results),
            env=environment(tmp_path, **settings),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + _WAIT_S
        while not manifests(results, "edits-"):
            assert run.poll() is None, run.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        _kill(server)
    out, err = run.communicate(timeout=_WAIT_S)
    assert run.returncode == USER_ERROR, out + err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"error: Prefect server at http://127.0.0.1:{port}/api does not answer")
    assert "run the same command again" in last
    kept = manifests(results)

    server = _server(home, port)
    try:
        done = run_command("run", study, "--results", results, home=tmp_path, **settings)
    finally:
        _kill(server)
    assert done.returncode == 0, done.stderr
    assert kept.items() <= manifests(results).items()
    assert_equal_tables(results, first_run.results)


def test_dead_server_is_told_on_the_terminal(study, tmp_path):
    """Where nobody answers from the start, the terminal has the sentence and no traceback."""
    url = f"http://127.0.0.1:{free_port()}/api"
    done = run_command(
        "run", study, "--results", tmp_path / "results", home=tmp_path, PREFECT_API_URL=url
    )
    assert done.returncode == USER_ERROR
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: Prefect server at {url} does not")
