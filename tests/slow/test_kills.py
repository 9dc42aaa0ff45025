"""``kill -9`` at random moments: each time a later run ends with the same tables."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from editcollapse.study.locks import MANIFESTS
from editcollapse.study.results_folder import LOCKS
from tests.support.flow_runs import (
    REPOSITORY,
    assert_equal_tables,
    command,
    environment,
    run_command,
    units_computed,
)
from tests.support.small_study import write_toml

pytestmark = [pytest.mark.slow, pytest.mark.server]
N_KILLS = int(os.environ.get("EDITCOLLAPSE_SOAK_KILLS", "30"))
_SEED = 2024


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run that was killed, and the run after it."""

    moment_s: float
    """When, after the command was started."""
    finished: int
    """Units that were done."""
    in_flight: int
    """Units that had been started and were not done."""
    computed_twice: int
    """Units that were computed to their end once more than needed."""
    status: int
    """Exit status of the run after it."""


@pytest.fixture(scope="module")
def long_study(study):
    """Return the small study in batches of one edit, each with more steps."""
    changes = {"models.source": "model", "value.steps": 60, "batch_size": 1, "name": "killed"}
    return write_toml(study.parent / "killed.toml", **changes)


def _uninterrupted(study: Path, server: str, folder: Path) -> tuple[Path, float, float]:
    """Return results of a run, and its seconds and those before its first unit was done."""
    start = time.monotonic()
    process = _start(study, folder / "results", folder, server)
    manifests = folder / "results" / MANIFESTS
    while process.poll() is None and not manifests.exists():
        time.sleep(0.05)
    first = time.monotonic() - start
    assert process.wait(300) == 0
    return folder / "results", first, time.monotonic() - start


def _start(study: Path, results: Path, home: Path, server: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command("run", study, "--results", results),
        env=environment(home, PREFECT_API_URL=server),
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _keys(results: Path, folder: str) -> set[str]:
    """Return the units that have a file in a folder: a manifest, or a lock."""
    found = (results / folder).glob("*-*.*") if (results / folder).is_dir() else ()
    return {path.stem for path in found if not path.name.startswith(".")}


def _trial(study: Path, folder: Path, server: str, after_units: int, wait_s: float) -> Trial:
    """Run the study, kill it some time after a number of units is done, run it again."""
    results = folder / "results"
    start = time.monotonic()
    process = _start(study, results, folder, server)
    while len(_keys(results, MANIFESTS)) < after_units and process.poll() is None:
        time.sleep(0.005)
    time.sleep(wait_s)
    moment_s = time.monotonic() - start
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = _keys(results, MANIFESTS)
    in_flight = _keys(results, LOCKS) - finished
    again = run_command("run", study, "--results", results, home=folder, PREFECT_API_URL=server)
    computed = units_computed(results)
    return Trial(
        moment_s=moment_s,
        finished=len(finished),
        in_flight=len(in_flight),
        computed_twice=sum(computed.values()) - len(computed),
        status=again.returncode,
    )


@pytest.fixture(scope="module")
def long_sequence(study):
    """Return a study of sequences alone, in chunks of two steps, each step with many passes."""
    changes = {
        "models.source": "model",
        "name": "killed_sequence",
        "methods": [],
        "sequence.editors": ["rome", "memit_seq", "rect"],
        "sequence.orders": 1,
        "sequence.n_edits": 8,
        "sequence.chunk_steps": 2,
        "sequence.checkpoints": [1, 5],
        "covariance.damping": 0.01,
        "value.steps": 60,
    }
    file = write_toml(study.parent / "killed_sequence.toml", **changes)
    editors = "".join(
        f'\n[[editors]]\nname = "{name}"\nsteps = 60\n' for name in ("memit_seq", "rect")
    )
    file.write_text(file.read_text() + editors)
    return file


@pytest.fixture(scope="module")
def uninterrupted(long_study, server, tmp_path_factory):
    """Return results, and the seconds of a run and of its part before the first unit."""
    return _uninterrupted(long_study, server, tmp_path_factory.mktemp("uninterrupted"))


@pytest.fixture(scope="module")
def uninterrupted_sequence(long_sequence, server, tmp_path_factory):
    """Return the same of the sequences."""
    return _uninterrupted(long_sequence, server, tmp_path_factory.mktemp("sequences"))


def test_thirty_kills(long_study, uninterrupted, server, tmp_path, capsys):
    """Every run after a kill ends with equal tables; each kill costs one batch at most."""
    _kill_often(long_study, uninterrupted, server, tmp_path, capsys, N_KILLS)


def test_ten_kills_of_sequences(long_sequence, uninterrupted_sequence, server, tmp_path, capsys):
    """Every run after a kill ends with equal tables; each kill costs one chunk of steps at most."""
    _kill_often(long_sequence, uninterrupted_sequence, server, tmp_path, capsys, N_KILLS // 3)


def _kill_often(study, uninterrupted, server, folder, capsys, n_kills):
    """Kill runs of a study at random moments; check what the runs after them end with."""
    expected, first_s, whole_s = uninterrupted
    n_units = len(_keys(expected, MANIFESTS))
    unit_s = (whole_s - first_s) / n_units
    draw = random.Random(_SEED)
    trials = []
    for number in range(n_kills):
        # Counted in units, so that a busy machine kills as far into the work as an idle one.
        after_units = draw.randrange(n_units + 1)
        wait_s = draw.uniform(0.0, 2 * unit_s if after_units else first_s)
        home = folder / str(number)
        home.mkdir()
        trials.append(_trial(study, home, server, after_units, wait_s))
        assert trials[-1].status == 0
        assert_equal_tables(home / "results", expected)
    with capsys.disabled():
        print(f"\n{n_units} units; run of {whole_s:.1f} s, first unit done after {first_s:.1f} s")
        print("kill at s   units done   in flight   computed twice   tables")
        for trial in trials:
            print(
                f"{trial.moment_s:9.1f}{trial.finished:13}{trial.in_flight:12}"
                f"{trial.computed_twice:17}   equal"
            )
    # A unit that had written its rows, and not yet its manifest, counts in both columns.
    assert all(max(trial.in_flight, trial.computed_twice) <= 1 for trial in trials)
    assert any(0 < trial.finished < n_units for trial in trials)
