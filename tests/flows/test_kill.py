"""Killed with ``kill -9`` at any moment and started again, a study loses at most a batch."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.flow_runs import (
    REPOSITORY,
    assert_equal_tables,
    command,
    environment,
    manifests,
    run_command,
    units_computed,
)
from tests.support.small_study import N_BATCHES

pytestmark = [pytest.mark.server, pytest.mark.slow]
_WAIT_S = 120.0

MOMENTS: dict[str, Callable[[dict[str, int]], bool]] = {
    "shard 1 or 2": lambda n: n["shard"] > 0,
    "evaluation of batch 1": lambda n: n["edits"] > 0,
    "edits of batch 3": lambda n: n["evaluation"] > 1,
}
"""What a run is doing when these manifests exist: it is killed then."""


@dataclasses.dataclass(frozen=True)
class Interrupted:
    """A study that was killed three times and then run to its end."""

    results: Path
    kept: tuple[dict[str, int], ...]
    """Manifests and their times at each kill."""
    last: subprocess.CompletedProcess[str]


def _counts(results: Path) -> dict[str, int]:
    kinds = ("templates", "shard", "covariance", "unedited", "edits", "evaluation")
    return {kind: len(manifests(results, f"{kind}-")) for kind in kinds}


def _kill_at(
    moment: Callable[[dict[str, int]], bool], study: Path, results: Path, home: Path, server: str
) -> dict[str, int]:
    """Run a study in a process of its own, kill it at a moment; return the manifests it left."""
    process = subprocess.Popen(
        command("run", study, "--results", results),
        env=environment(home, PREFECT_API_URL=server),
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + _WAIT_S
    while not moment(_counts(results)):
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return manifests(results)


@pytest.fixture(scope="module")
def interrupted(study, server, tmp_path_factory) -> Interrupted:
    """Kill the small study at each moment in turn, then let it end."""
    home = tmp_path_factory.mktemp("home")
    results = tmp_path_factory.mktemp("interrupted") / "results"
    kept = [_kill_at(moment, study, results, home, server) for moment in MOMENTS.values()]
    last = run_command("run", study, "--results", results, home=home, PREFECT_API_URL=server)
    return Interrupted(results, tuple(kept), last)


def test_killed_study_ends(interrupted):
    """The run after the last kill ends like any other."""
    assert interrupted.last.returncode == 0, interrupted.last.stderr
    assert "collapse incidence" in interrupted.last.stdout
    assert _counts(interrupted.results)["evaluation"] == N_BATCHES


def test_killed_study_has_the_same_tables(interrupted, first_run):
    """Its tables are those of an uninterrupted run in another folder, to the last bit."""
    assert_equal_tables(interrupted.results, first_run.results)


def test_kill_loses_at_most_the_unit_in_flight(interrupted, first_run):
    """Each kill costs at most one unit that was computed to its end, and no manifest."""
    computed = units_computed(interrupted.results)
    assert computed.keys() == units_computed(first_run.results).keys()
    assert sum(computed.values()) - len(computed) <= len(MOMENTS)
    final = manifests(interrupted.results)
    for kept in interrupted.kept:
        assert kept.items() <= final.items()


def test_runs_were_killed_at_different_moments(interrupted):
    """The kills fell at several moments before the end: the tests here test what they say."""
    sizes = [len(kept) for kept in interrupted.kept]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] < len(manifests(interrupted.results))


def test_run_is_completed_on_the_server(interrupted, server):
    """The server that was there before shows the run as completed."""
    asked = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    names = {run["name"] for run in _ask(server, "flow_runs", asked)}
    assert interrupted.last.returncode == 0
    assert any(name.startswith("small 20") for name in names)  # other tests use the server too


def test_run_page_has_the_log(interrupted, server):
    """What the science logs is on the run's page."""
    messages, page = set(), [{}]
    offset = 0
    while page:
        page = _ask(server, "logs", {"offset": offset, "limit": 200})
        messages |= {line["message"] for line in page}
        offset += len(page)
    assert "loaded model on cpu" in messages
    assert any(each.startswith("Finished in state Completed(") for each in messages)


def _ask(server: str, what: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the server's API knows."""
    request = urllib.request.Request(  # noqa: S310  our own server
        f"{server}/{what}/filter", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def test_running_server_keeps_its_own_home(interrupted):
    """Against a server that is there, the results folder holds no Prefect database."""
    assert not (interrupted.results / "prefect").exists()
