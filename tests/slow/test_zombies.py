"""A flow process that is killed without a worker to report it: Crashed, not Running for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from editcollapse.study.locks import MANIFESTS
from tests.slow.served import served
from tests.support.flow_runs import REPOSITORY, command, environment

pytestmark = [pytest.mark.slow, pytest.mark.server]
_LONG_S = 180.0
"""A heartbeat may be 30 s old, the rule waits 90 s, and the server looks every few seconds."""


def test_killed_run_becomes_crashed(tmp_path):
    """A study started by hand and killed with -9 is Crashed, with the reason, and can run again."""
    with served(tmp_path / "s") as found:
        assert found.flows("deploy").returncode == 0
        line = command("run", "studies/scheduled.toml", "--results", found.results)
        process = subprocess.Popen(
            line,
            env=environment(found.home, PREFECT_API_URL=found.api),
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while not list((found.results / MANIFESTS).glob("edits-*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        killed = time.monotonic()
        states = set()
        while "CRASHED" not in states:
            assert time.monotonic() < killed + _LONG_S, states
            time.sleep(1)
            runs = found.ask("flow_runs/filter", {"flow_runs": {"name": {"like_": "scheduled "}}})
            states = {run["state_type"] for run in runs}
            assert len(runs) == 1
        print(f"Crashed {time.monotonic() - killed:.0f} s after the kill")
        assert "No heartbeat for 90 seconds" in runs[0]["state"]["message"]
        assert (
            found.flows("run", "studies/scheduled.toml", "--results", found.results).returncode == 0
        )
