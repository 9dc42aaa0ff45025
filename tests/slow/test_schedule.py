"""A schedule on a real server and worker: the first run computes, the next ones find all of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from rich.console import Console
from rich.table import Table

from tests.slow.served import COLLAPSE_STUDY, register_study, served
from tests.support.flow_runs import manifests, tables, units_computed
from tests.support.small_study import N_EDITS, write_study

pytestmark = [pytest.mark.slow, pytest.mark.server]
_NAME = COLLAPSE_STUDY
_EVERY_S = 10
_N_RUNS = 3


@pytest.fixture(scope="module")
def schedule(tmp_path_factory):
    """Let the project's deployment run thrice, every few seconds, with the small study.

    Returns the server, and for each run what the server says of it, the tables and the records
    that are there after it.
    """
    folder = tmp_path_factory.mktemp("schedule")
    study = write_study(folder / "inputs")
    with served(folder / "served") as found:
        register_study(found, study, _SCHEDULE)
        after = []
        for number in range(1, _N_RUNS + 1):
            run = found.finished(_NAME, number)[-1]
            after.append((run, tables(found.results), manifests(found.results)))
        yield found, after


_SCHEDULE = {"interval": _EVERY_S, "slug": "often"}


def _task_states(found, run):
    """Return state names of a run's tasks and how often each occurs, once all have arrived."""
    asked = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    deadline = time.monotonic() + 60
    before = -1
    while True:
        tasks = found.ask("task_runs/filter", asked)
        ended = all(task["state_type"] == "COMPLETED" for task in tasks)
        if ended and len(tasks) == before:
            break
        assert time.monotonic() < deadline, "task states did not reach the server"
        before = len(tasks)
        time.sleep(2)  # the server takes them in once a second
    names = [task["state_name"] for task in tasks if not task["name"].startswith("record ")]
    return {name: names.count(name) for name in sorted(set(names))}


def test_three_runs_complete(schedule):
    """The worker takes each run that is due; the table of them is printed."""
    found, after = schedule
    table = Table("run", "state", "due", "started after", "took", "tasks")
    for run, _, _ in after:
        assert run["auto_scheduled"]
        assert run["state_name"] == "Completed", run["state"]["message"]
        assert run["name"] == f"small {run['expected_start_time'][:16].replace('T', ' ')}"
        table.add_row(
            run["name"],
            run["state_name"],
            run["expected_start_time"][11:19],
            f"{run['estimated_start_time_delta']:.1f} s",
            f"{run['total_run_time']:.1f} s",
            str(_task_states(found, run)),
        )
    Console(width=140).print(table)


def test_later_runs_compute_nothing(schedule):
    """No unit is computed twice, no record is written again, and every task is Cached."""
    found, after = schedule
    first, *later = after
    assert set(units_computed(found.results).values()) == {1}
    assert "Nothing had to be computed" not in first[0]["state"]["message"]
    for run, _, left in later:
        assert "Nothing had to be computed" in run["state"]["message"]
        assert left == first[2]
        assert _task_states(found, run).keys() == {"Cached"}
    assert "Completed" in _task_states(found, first[0])


def test_database_is_the_same_after_each_run(schedule):
    """Every table has the same rows, to the last bit, after the first, second and third run."""
    _, after = schedule
    first, *later = (numbers for _, numbers, _ in after)
    assert first["measurements"].height == N_EDITS
    for numbers in later:
        assert [name for name in first if not numbers[name].equals(first[name])] == []


def test_coming_runs_have_the_edited_study(schedule):
    """Registered again after an edit of the study file, the coming runs ask for the new content.

    A run that is overdue at that moment has been made already, and keeps what it was asked.
    """
    found, after = schedule
    study = write_study(found.home / "edited", name="edited")
    register_study(found, study, _SCHEDULE)
    registered_at = datetime.now(UTC).isoformat()
    deadline = time.monotonic() + 180
    while not (ended := [run for run in found.runs(_NAME) if run["name"].startswith("edited ")]):
        assert time.monotonic() < deadline, "no run of the edited study"
        time.sleep(1)
    later = [run for run in found.runs(_NAME) if run["expected_start_time"] > registered_at]
    assert {run["parameters"]["study"]["name"] for run in [*later, *ended]} == {"edited"}
    assert after[0][0]["parameters"]["study"]["name"] == "small"
    (first, *_) = ended
    while found.ask(f"flow_runs/{first['id']}")["state_name"] != "Completed":
        assert time.monotonic() < deadline
        time.sleep(1)
