"""Start ``make server`` as a user does, and ask its server."""

from __future__ import annotations

import base64
import contextlib
import copy
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.flow_runs import REPOSITORY, command, environment

COLLAPSE_STUDY = "collapse-study"
WORKER_STARTED = "started!"
"""The last word of a worker's first line."""
_WAIT_S = 180.0


@dataclasses.dataclass(frozen=True)
class Served:
    """A server with its worker and pages."""

    port: int
    results: Path
    home: Path
    process: subprocess.Popen[bytes]
    said: Path
    password: str = ""

    @property
    def api(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.port}/api"

    def words(self) -> str:
        """Return what the command has printed so far."""
        return self.said.read_text()

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until the command has said something so often."""
        deadline = time.monotonic() + _WAIT_S
        while self.words().count(text) < times:
            assert self.process.poll() is None, self.words()
            assert time.monotonic() < deadline, self.words()
            time.sleep(0.2)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return what the API answers: to POST with a body, else to GET.

        A server that is busy writing says 503, and its clients ask again.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.password:
            headers["Authorization"] = f"Basic {base64.b64encode(self.password.encode()).decode()}"
        request = urllib.request.Request(f"{self.api}/{path}", data, headers)  # noqa: S310
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                error.close()
                busy = error.code == HTTPStatus.SERVICE_UNAVAILABLE
                if not busy or time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """Return the started runs of a deployment, oldest first."""
        asked = {"deployments": {"name": {"any_": [deployment]}}, "sort": "START_TIME_ASC"}
        return [run for run in self.ask("flow_runs/filter", asked) if run["start_time"]]

    def finished(self, deployment: str, number: int) -> list[dict[str, Any]]:
        """Wait until so many runs of a deployment have ended; return them."""
        deadline = time.monotonic() + _WAIT_S
        while True:
            ended = [run for run in self.runs(deployment) if run["end_time"]]
            if len(ended) >= number:
                return ended[:number]
            assert time.monotonic() < deadline, [
                (run["name"], run["state_name"], run["state"]["message"])
                for run in self.runs(deployment)
            ]
            time.sleep(0.5)

    def flows(self, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run ``python -m flows`` against the server."""
        if self.password:
            more = {"PREFECT_API_AUTH_STRING": self.password} | more
        return subprocess.run(
            command(*arguments),
            env=environment(self.home, PREFECT_API_URL=self.api, **more),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@contextlib.contextmanager
def served(folder: Path, *, behind_shell: bool = False, password: str = "") -> Iterator[Served]:
    """Serve a results folder for the block, on ports that are free.

    Args:
        folder: for results, home and what is printed.
        behind_shell: start it where SIGINT is ignored, as by a script's &.
        password: user:password of the server.
    """
    port = _free_ports()
    results, home, said = folder / "results", folder / "home", folder / "said"
    home.mkdir(parents=True)
    line = ["make", "-s", "-o", ".venv/.runs", "server", f"BIN={Path(sys.executable).parent}"]
    line += [f"PORT={port}", f"RESULTS={results}"]
    more = {"PREFECT_SERVER_API_AUTH_STRING": password} if password else {}
    if behind_shell:
        script = 'trap "" INT; exec "$@"'
        line = ["sh", "-c", script, "sh", *line]
    with said.open("wb") as output:
        process = subprocess.Popen(
            line,
            env=environment(home, **more),
            cwd=REPOSITORY,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    found = Served(port, results, home, process, said, password)
    try:
        found.wait_for(WORKER_STARTED)
        yield found
    finally:
        stop(found)


def register_study(found: Served, study: Path, *schedules: dict[str, Any]) -> None:
    """Register the study's deployment alone, as ``python -m flows deploy`` does.

    Args:
        found: the server.
        study: the study file.
        schedules: as in prefect.yaml.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.deploy import register

    file = register.read_deployment_file()
    content = copy.deepcopy(file.content)
    (own,) = [each for each in content["deployments"] if each["name"] == COLLAPSE_STUDY]
    own["schedules"] = list(schedules)
    content["deployments"] = [own]
    (step,) = content["build"][0].values()
    step["study"] = str(study)
    wanted = dataclasses.replace(file, content=content, study=study)
    rules = yaml.safe_load(register.AUTOMATIONS.read_text(encoding="utf-8"))
    for rule in rules["automations"]:
        if "starts (gpu)" in rule["name"]:
            rule["trigger"]["within"] = 30
    sooner = found.home / "automations.yaml"
    sooner.write_text(yaml.safe_dump({"automations": rules["automations"]}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_API_URL", found.api)
        environment.setenv("PREFECT_HOME", str(found.home))
        with temporary_settings({PREFECT_API_URL: found.api}):
            list(register.deploy_all(wanted, str(found.results), sooner))


def stop(found: Served, number: signal.Signals = signal.SIGTERM) -> int:
    """Send a signal to the command and what it runs in the foreground, as a terminal does; wait."""
    if found.process.poll() is None:
        os.killpg(found.process.pid, number)
    try:
        return found.process.wait(90)
    except subprocess.TimeoutExpired:
        os.killpg(found.process.pid, signal.SIGKILL)
        raise


def descendants(pid: int) -> dict[int, str]:
    """Return process id and command line of all that a process and its children have started."""
    parents, lines = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            if status[0] != "Z":
                parents[int(entry.name)] = int(status[1])
                lines[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found |= new
    return {child: lines[child] for child in sorted(found)}


def worker_of(found: Served) -> int:
    """Wait for the worker, which is started again where it was killed; return its process id."""
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        for pid, line in descendants(found.process.pid).items():
            if "/prefect worker start" in line:
                return pid
        time.sleep(0.5)
    raise AssertionError(found.words())


def listening(port: int) -> set[str]:
    """Return the addresses on which somebody listens on a port, as the kernel writes them."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, number = local.rpartition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(address)
    return found


def _free_ports() -> int:
    """Return a free port whose successor is free as well."""
    for _ in range(100):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            with contextlib.suppress(OSError):
                two.bind(("127.0.0.1", port + 1))
                return port
    raise AssertionError("no two free ports in a row")
