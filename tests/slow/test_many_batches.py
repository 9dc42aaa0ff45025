"""A thousand batches through one flow: what the flow and the server take, and whether it grows."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from storage.ask import ask
from tests.slow.processes import memory_mib, server_process
from tests.support.flow_runs import REPOSITORY, command, environment
from tests.support.small_study import fact, write_study

pytestmark = [pytest.mark.slow, pytest.mark.server]
N_BATCHES = 1000
FLOW_GROWTH_MIB = 64.0
"""The flow's process may grow by so much from its first quarter to its end."""
SERVER_GROWTH_MIB = 128.0
"""The server keeps the events of the last minutes in memory."""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Return a study of a thousand batches, each of one edit of one step."""
    folder = tmp_path_factory.mktemp("many")
    changes = {"name": "many", "batch_size": 1, "methods": ["rome"], "value.steps": 1}
    study = write_study(folder, **changes)
    facts = [fact(index) for index in range(N_BATCHES)]
    for index, record in enumerate(facts):  # requests are told apart by their prompts
        words = ("old", "new", "north", "south", "one", "more", "thing", "place", "river", "and")
        said = " ".join(words[int(digit)] for digit in f"{index:03d}")
        record["requested_rewrite"]["prompt"] = f"The {said} name of {{}} is"
    (folder / "facts.json").write_text(json.dumps(facts))
    return study


def test_thousand_batches(many, server, tmp_path, capsys):
    """All are measured; neither process grows beyond its bound."""
    results = tmp_path / "results"
    start = time.monotonic()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command("run", many, "--results", results),
            env=environment(tmp_path, PREFECT_API_URL=server),
            cwd=REPOSITORY,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    served_by = server_process(server)
    samples = []
    while process.poll() is None:
        time.sleep(1.0)
        done = _n_done(results)
        if done and process.poll() is None:
            samples.append((done, memory_mib(process.pid), memory_mib(served_by)))
    wall_s = time.monotonic() - start
    assert process.returncode == 0, (tmp_path / "log").read_text()[-3000:]
    (n_edits,) = ask(results, "select count(*) from edit_outcomes").row(0)
    assert n_edits == N_BATCHES
    work = ask(results, "select sum(duration_s) as s, count(*) as n from provenance")
    overhead_s = (wall_s - work["s"].item()) / work["n"].item()
    table = pl.DataFrame(samples, schema=["batches", "flow", "server"], orient="row")
    grown = {name: _growth(table, name) for name in ("flow", "server")}
    with capsys.disabled():
        print(f"\n{N_BATCHES} batches, {work['n'].item()} units in {wall_s:.0f} s")
        print(f"overhead {1000 * overhead_s:.1f} ms a unit, start of the process included")
        print("batches   flow MiB   server MiB")
        for row in table.gather_every(max(1, len(table) // 12)).iter_rows():
            print("{:7}{:11.0f}{:13.0f}".format(*row))
        print(f"growth from the first quarter to the last, MiB: {grown}")
        print(f"tasks that the server knows: {_n_tasks(server)}")
    assert grown["flow"] < FLOW_GROWTH_MIB
    assert grown["server"] < SERVER_GROWTH_MIB


def _n_done(results: Path) -> int:
    folder = results / "artifacts/manifests"
    return sum(1 for _ in folder.glob("evaluation-*.json")) if folder.is_dir() else 0


def _growth(table: pl.DataFrame, name: str) -> float:
    """Return the last quarter's median less the second's: the first fills caches."""
    quarter = N_BATCHES // 4
    early = table.filter(pl.col("batches").is_between(quarter, 2 * quarter))[name]
    late = table.filter(pl.col("batches") > 3 * quarter)[name]
    return float(np.median(late) - np.median(early))


def _n_tasks(server: str) -> int:
    request = urllib.request.Request(  # noqa: S310  our own server
        f"{server}/task_runs/count", b"{}", {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return int(json.load(answer))
