"""What is arranged before Prefect starts."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.observe import environment

_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
_SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


@pytest.fixture
def plain(monkeypatch):
    """Take Prefect's variables out of this process's environment, and put them back."""
    for name in list(os.environ):
        if name.startswith(("PREFECT", "EDITCOLLAPSE")):
            monkeypatch.delenv(name)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def fake_server(tmp_path):
    """Return a function that starts a process which looks like a run's temporary server."""
    started = []

    def start(owner: str, home: Path = tmp_path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            _SLEEP,
            stdout=subprocess.PIPE,
            env=os.environ
            | {
                "PREFECT_HOME": str(home),
                "PREFECT__SERVER_EPHEMERAL": "1",
                "EDITCOLLAPSE_RUN": owner,
            },
        )
        started.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@_LINUX
def test_server_of_a_killed_run_is_stopped(fake_server, tmp_path):
    """A temporary server whose run is gone is stopped, also where its number was given anew."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    for owner in (f"{gone.pid}-0", f"{gone.pid}-12345", f"{os.getpid()}-12345"):
        orphan = fake_server(owner if owner.endswith("5") else f"{gone.pid}-1")
        assert environment.stop_orphans(tmp_path) == 1
        assert orphan.wait(timeout=10) == -signal.SIGTERM


@_LINUX
def test_server_of_a_living_run_is_left(fake_server, tmp_path):
    """Servers of a run that goes on, or of another results folder, are left alone."""
    living = fake_server(environment._identity(os.getpid()))
    other = fake_server("1-1", tmp_path / "other")
    assert environment.stop_orphans(tmp_path) == 0
    time.sleep(0.1)
    assert living.poll() is None
    assert other.poll() is None


def test_home_lies_in_the_results_folder(plain, tmp_path, monkeypatch):
    """Without a server, Prefect's home is below the results folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert "temporary" in environment.prepare(tmp_path / "results")
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "results/prefect")


def test_runs_that_start_at_the_same_moment_do_not_meet(plain, tmp_path):
    """Two processes that begin in one results folder, time and again: neither is in the way."""
    script = f"""
from pathlib import Path
from flows.observe.environment import prepare
for _ in range(500):
    prepare(Path({str(tmp_path / "results")!r}))
"""
    starting = [
        subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate()[1] for process in starting]
    assert [process.returncode for process in starting] == [0, 0], printed
    assert list((tmp_path / "results/prefect").iterdir()) == []


def test_configured_server_is_left_as_it_is(plain, tmp_path, monkeypatch):
    """A server named by the environment or the active profile is used, and nothing is written."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    (tmp_path / "profiles.toml").write_text(
        'active = "lab"\n[profiles.lab]\nPREFECT_API_URL = "http://lab/api"\n'
    )
    assert environment.prepare(tmp_path / "results") == "Prefect server at http://lab/api"
    monkeypatch.setenv("PREFECT_API_URL", "http://here/api")
    assert environment.prepare(tmp_path / "results") == "Prefect server at http://here/api"
    assert not (tmp_path / "results").exists()


def test_what_the_user_has_set_stays(plain, tmp_path, monkeypatch):
    """A variable that is set is not overridden."""
    monkeypatch.setenv("PREFECT_LOGGING_ROOT_LEVEL", "DEBUG")
    environment.prepare(tmp_path)
    assert os.environ["PREFECT_LOGGING_ROOT_LEVEL"] == "DEBUG"


def test_logging_level_is_a_name():
    """Prefect drops its whole logging configuration where a level is no name."""
    level = environment._TERMINAL["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"]
    assert level in logging.getLevelNamesMapping()


def test_settings_of_pyproject_hold_wherever_a_command_is_started(plain, tmp_path):
    """A process that starts elsewhere has the settings that Prefect reads in this folder."""
    ask = (
        "from prefect.settings import get_current_settings as now; s = now().server.services; "
        "print(s.task_run_recorder.batch_size, s.event_persister.batch_size, "
        "now().flows.heartbeat_frequency, now().results.persist_by_default)"
    )
    printed = []
    for folder, own in ((environment.ROOT, {}), (tmp_path, dict(environment.project_settings()))):
        done = subprocess.run(
            [sys.executable, "-c", ask],
            cwd=folder,
            env=os.environ | {"HOME": str(tmp_path)} | own,
            capture_output=True,
            text=True,
            check=True,
        )
        printed.append(done.stdout)
    assert printed == ["200 500 30 True\n"] * 2
