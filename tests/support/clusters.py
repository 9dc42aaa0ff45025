"""Workers that have the installed wheel and nothing else of ours, and clusters made of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.flow_runs import REPOSITORY, run_command
from tests.support.small_study import write_toml

_WAIT_S = 120.0
_OURS = ("tasks", "flows", "storage", "tests")
_LOOK = (
    "import importlib.util, editcollapse, pathlib;"
    f"found = [name for name in {_OURS!r} if importlib.util.find_spec(name)];"
    "assert not found, found;"
    "print(pathlib.Path(editcollapse.__file__).parent)"
)


def make_worker_python(folder: Path) -> Path:
    """Return a Python that has the wheel and, from this environment, the libraries alone.

    The libraries come by a path file, whose own path files are not read: so the editable install
    of this checkout does not come with them.
    """
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            folder,
            REPOSITORY,
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    (hooked,) = (folder / "venv" / "lib").glob("*/site-packages")
    (hooked / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", hooked]
    subprocess.run([*install, wheel], check=True, capture_output=True)
    found = subprocess.run(
        [python, "-c", _LOOK],
        cwd=folder,
        env=worker_environment(folder),
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(hooked)
    return python


def worker_environment(folder: Path) -> dict[str, str]:
    """Return a plain shell's environment: no path of this checkout in it."""
    plain = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("PREFECT", "PYTHON")) and name != "VIRTUAL_ENV"
    }
    return plain | {"HOME": str(folder), "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}


@contextlib.contextmanager
def dask_cluster(python: Path, folder: Path, n_workers: int = 2) -> Iterator[str]:
    """Start a scheduler and workers, each a process of its own; give the scheduler's address."""
    port = _free_port()
    address = f"tcp://127.0.0.1:{port}"
    here = ["--host", "127.0.0.1"]
    scheduler = [python, "-m", "distributed.cli.dask_scheduler", *here, "--port", str(port)]
    worker = [python, "-m", "distributed.cli.dask_worker", address, *here, "--nthreads", "1"]
    commands = [[*scheduler, "--no-dashboard"]] + [
        [*worker, "--memory-limit", "0", "--no-dashboard", "--name", str(number)]
        for number in range(n_workers)
    ]
    with contextlib.ExitStack() as stack:
        for number, command in enumerate(commands):
            stack.enter_context(_running(command, folder, f"dask-{number}"))
        yield address


@contextlib.contextmanager
def ray_cluster(python: Path, folder: Path, n_workers: int = 2) -> Iterator[str]:
    """Start a Ray node with so many CPUs; give its client's address."""
    port, client = _free_port(), _free_port()
    ray = [python, "-m", "ray.scripts.scripts"]
    start = [*ray, "start", "--head", "--block", "--num-cpus", str(n_workers)]
    ports = ["--port", str(port), "--ray-client-server-port", str(client)]
    with _running([*start, *ports, "--include-dashboard", "false"], folder, "ray"):
        _wait_for_port(client)
        yield f"ray://127.0.0.1:{client}"


def run_on(study: Path, folder: Path, server: str, **runner: object) -> Path:
    """Run the small study on a cluster; return its results folder."""
    changes = {f"runner.{name}": value for name, value in runner.items()}
    file = write_toml(study.parent / f"{folder.name}.toml", **{"models.source": "model"}, **changes)
    results = folder / "results"
    done = run_command("run", file, "--results", results, home=folder, PREFECT_API_URL=server)
    assert done.returncode == 0, done.stdout + done.stderr
    return results


@contextlib.contextmanager
def _running(command: list[str | Path], folder: Path, name: str) -> Iterator[None]:
    """Run a command in a process group of its own for the block."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=worker_environment(folder),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
        assert process.poll() is None, (folder / f"{name}.log").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + _WAIT_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < deadline, f"nobody listens on port {port}"
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
