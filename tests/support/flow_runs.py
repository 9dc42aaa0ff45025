"""Run a study and look at what it left: states, tables, units computed."""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from editcollapse.config.study_file import read_study
from editcollapse.rows.frames import schema_of
from editcollapse.rows.study import NATURAL_KEYS
from editcollapse.study.locks import MANIFESTS, cached_manifest
from editcollapse.study.plan import CovariancePlan, ModelPlan, StudyPlan, plan_study

REPOSITORY = Path(__file__).resolve().parents[2]
_TIMED = {"provenance"}
"""Tables that say when and where."""
_SETTLE_S = 30.0
"""The server takes in task states in batches."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run."""

    study_id: str
    results: Path
    n_units: int
    """Task runs that it has at least."""
    flow_run_id: object
    """The run on the server."""

    @functools.cached_property
    def tasks(self) -> tuple[tuple[str, str], ...]:
        """Name and state name of each task run, sub-flows included; waits until all are there."""
        return _task_states(self.flow_run_id, self.n_units)

    @property
    def states(self) -> dict[str, str]:
        """Task run name to state name; a unit that was computed again keeps that."""
        return dict(sorted(self.tasks, key=lambda task: task[1] != "Cached"))

    def computed(self, start: str = "") -> int:
        """Return how many task runs of such a name were not cached."""
        return sum(name.startswith(start) and state != "Cached" for name, state in self.tasks)


def run_in_process(study: Path, results: Path) -> Run:
    """Run a study file on the backend of the tests."""
    from flows.study import collapse_study

    spec = read_study(study)
    plan = plan_study(spec, results)
    each = 3 + 2 * plan.n_batches  # and texts, where an edit has done damage
    n_units = 1 + sum(each + _corpus_units(plan, model) for model in plan.models)
    state = collapse_study(spec, str(results), return_state=True)
    study_id = state.result()
    return Run(study_id, results, n_units, state.state_details.flow_run_id)


def _corpus_units(plan: StudyPlan, model: ModelPlan) -> int:
    """Return the task runs before a merge, at least: corpus, probe keys and a shard."""
    needs_none = (
        not model.moment.covariance.is_measured or cached_manifest(model.moment) is not None
    )
    if needs_none:
        return 0
    return 3 + CovariancePlan.of(plan, model).n_sample_jobs


def sub_flow_runs(client: Any, flow_run_id: object) -> list[Any]:
    """Return the sub-flows of a flow run."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    parent = FlowRunFilterParentFlowRunId(any_=[flow_run_id])
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent))


def artifact(run_id: object, key: str) -> Any:
    """Return the newest artifact of a key on a run's page, or None."""
    from prefect import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        )
    found = [one for one in found if one.flow_run_id == run_id]
    return found[0] if found else None


def _task_states(flow_run_id: object, n_units: int) -> tuple[tuple[str, str], ...]:
    """Return name and state of each task run of a flow run and its sub-flows.

    Args:
        flow_run_id: the run.
        n_units: task runs that it has at least, the report being the last; they reach the server
            after the run's end.
    """
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        children = sub_flow_runs(client, flow_run_id)
        ids = FlowRunFilterId(any_=[flow_run_id, *(child.id for child in children)])
        deadline = time.monotonic() + _SETTLE_S
        before = -1
        while True:
            found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=ids))
            # A sub-flow is a task run of its parent too.
            tasks = [run for run in found if not run.name.startswith("edit-model")]
            final = all(run.state is not None and run.state.is_final() for run in tasks)
            final = final and any(run.name.startswith("report ") for run in tasks)
            if final and before == len(tasks) >= n_units:
                return tuple((run.name, str(run.state_name)) for run in tasks)
            assert time.monotonic() < deadline, "task states did not reach the server"
            before = len(tasks)
            time.sleep(0.1)


def tables(results: Path) -> dict[str, pl.DataFrame]:
    """Return every published table whose rows do not say when and where, in order of its keys."""
    from storage.ask import ask_each

    shown = {table: keys for table, keys in NATURAL_KEYS.items() if table not in _TIMED}
    queries = (
        f"select {', '.join(schema_of(table))} from {table} order by {', '.join(keys)}"  # noqa: S608
        for table, keys in shown.items()
    )
    answers = ask_each(results, "; ".join(queries))
    return {table: answer.frame for table, answer in zip(shown, answers, strict=True)}


def assert_equal_tables(found: Path, expected: Path) -> None:
    """Check that two results folders have published the same numbers, to the last bit."""
    left, right = tables(found), tables(expected)
    different = [name for name in right if not left[name].equals(right[name])]
    assert not different, {name: (left[name], right[name]) for name in different}


def units_computed(results: Path) -> Counter[str]:
    """Return how often each unit was computed to its end: each time leaves a provenance file."""
    files = (results / "artifacts/rows/provenance").glob("*.parquet")
    return Counter(pl.read_parquet(file)["unit_id"].item() for file in files)


def manifests(results: Path, kind: str = "") -> dict[str, int]:
    """Return the keys of finished units with the times when their manifests changed."""
    found = (results / MANIFESTS).glob(f"{kind}*.json")
    return {path.stem: path.stat().st_mtime_ns for path in found}


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return what a user's shell gives a command, without anything of Prefect's."""
    plain = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT")}
    return plain | {"HOME": str(home), "OMP_NUM_THREADS": "1", **more}


def command(*arguments: str | Path) -> list[str]:
    """Return a command line of ``python -m flows``."""
    return [sys.executable, "-m", "flows", *map(str, arguments)]


def run_command(
    *arguments: str | Path, home: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m flows`` to its end."""
    return subprocess.run(
        command(*arguments),
        env=environment(home, **more),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
