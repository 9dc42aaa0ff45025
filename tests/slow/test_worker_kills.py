"""The worker killed at ten random moments, and a run cancelled: later runs end all the same."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import time
from typing import Any

import pytest

from editcollapse.study.locks import MANIFESTS
from tests.slow.served import COLLAPSE_STUDY, Served, register_study, served, worker_of
from tests.support.flow_runs import assert_equal_tables, units_computed
from tests.support.small_study import write_study

pytestmark = [pytest.mark.slow, pytest.mark.server]
N_KILLS = int(os.environ.get("EDITCOLLAPSE_SOAK_WORKER_KILLS", "10"))
_SEED = 2025
_WAIT_S = 600.0
_LONGEST_S = 15.0
"""Moments are drawn up to so many seconds after the run was asked for."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One worker that was killed."""

    moment_s: float
    """When, after the run was asked for."""
    state: str
    """The run's state at that moment."""
    finished: int
    """Units that were done then."""
    end: str
    """State in which that run ended."""
    again: str
    """State in which the next run of the same study ended."""
    took_s: float
    """Seconds until then."""
    computed_twice: int


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """Return a server with a worker, and the deployment of a study of some seconds."""
    folder = tmp_path_factory.mktemp("workers")
    changes = {"name": "killed", "value.steps": 60, "batch_size": 1}
    study = write_study(folder / "inputs", **changes)
    with served(folder / "served") as found:
        register_study(found, study)
        yield found


def _asked_for(found: Served, results: str) -> str:
    """Ask for a run of the deployment into a results folder; return its id."""
    (deployment,) = found.ask("deployments/filter", {})
    assert deployment["name"] == COLLAPSE_STUDY
    body = {
        "parameters": deployment["parameters"] | {"results": results},
        "state": {"type": "SCHEDULED", "name": "Scheduled"},
    }
    return str(found.ask(f"deployments/{deployment['id']}/create_flow_run", body)["id"])


def _ended(found: Served, run_id: str) -> dict[str, Any]:
    """Wait until a run has ended; return it."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        run = found.ask(f"flow_runs/{run_id}")
        if run["end_time"]:
            return dict(run)
        assert time.monotonic() < deadline, (run["state"], found.words())
        time.sleep(0.5)


def _trial(found: Served, results: Any, moment_s: float | None) -> Trial:
    """Ask for a run, kill the worker at a moment, ask for the same again.

    Without a moment it is killed as soon as it has taken the run, before there is a process.
    """
    start = time.monotonic()
    first = _asked_for(found, str(results))
    state = "Scheduled"
    if moment_s is not None:
        time.sleep(moment_s)
    while moment_s is None and state in {"Scheduled", "Late"}:
        time.sleep(0.02)
        state = found.ask(f"flow_runs/{first}")["state_name"]
    moment_s = time.monotonic() - start
    state = found.ask(f"flow_runs/{first}")["state_name"]
    os.kill(worker_of(found), signal.SIGKILL)
    done = len(list((results / MANIFESTS).glob("[!.]*"))) if results.is_dir() else 0
    second = _asked_for(found, str(results))
    end, again = _ended(found, first), _ended(found, second)
    computed = units_computed(results)
    return Trial(
        moment_s=moment_s,
        state=state,
        finished=done,
        end=end["state_name"],
        again=again["state_name"],
        took_s=time.monotonic() - start,
        computed_twice=sum(computed.values()) - len(computed),
    )


def test_ten_kills_of_the_worker(serving, tmp_path, capsys):
    """Another worker takes over; the study ends, and no unit is computed twice."""
    expected = tmp_path / "expected"
    assert _ended(serving, _asked_for(serving, str(expected)))["state_name"] == "Completed"
    draw = random.Random(_SEED)
    trials = []
    for number in range(N_KILLS):
        results = tmp_path / str(number)
        moment_s = draw.uniform(0.0, _LONGEST_S) if number else None
        trials.append(_trial(serving, results, moment_s))
        assert trials[-1].again == "Completed", trials[-1]
        assert_equal_tables(results, expected)
    with capsys.disabled():
        print("\nkill at s   state then   units done   run ended   next run   after s   twice")
        for each in trials:
            print(
                f"{each.moment_s:9.1f}{each.state:>13}{each.finished:13}{each.end:>12}"
                f"{each.again:>11}{each.took_s:10.0f}{each.computed_twice:8}"
            )
    assert all(trial.computed_twice <= 1 for trial in trials)
    assert {trial.state for trial in trials} - {"Scheduled"}


def test_run_cancelled_in_the_ui_stops_and_can_go_on(serving, tmp_path):
    """It ends as Cancelled with units to do; the next run computes what was missing only."""
    results = tmp_path / "results"
    first = _asked_for(serving, str(results))
    edits = results / MANIFESTS
    deadline = time.monotonic() + _WAIT_S
    while not list(edits.glob("edits-*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    serving.ask(f"flow_runs/{first}/set_state", cancelling)
    assert _ended(serving, first)["state_name"] == "Cancelled"
    done = units_computed(results)
    second = _asked_for(serving, str(results))
    assert _ended(serving, second)["state_name"] == "Completed"
    computed = units_computed(results)
    assert set(done) < set(computed)
    assert sum(computed.values()) - len(computed) <= 1
