"""OpenMP's threads: what is set, what wins, and that it is set before torch is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from editcollapse import openmp
from editcollapse.openmp import cpu_quota, share_cores, usable_cpus

OURS = {"GOMP_SPINCOUNT": openmp.GNU_SPINS, "KMP_BLOCKTIME": openmp.LLVM_SPIN_MS}
NAMES = (*OURS, "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
REPORT = f"import os; print({{n: os.environ.get(n) for n in {NAMES!r}}})"


@pytest.fixture(autouse=True)
def no_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "cpu_quota", lambda: None)


def _groups(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_max", ".max")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="ascii")
    return folder


def test_waiting_threads_sleep_soon() -> None:
    environment: dict[str, str] = {}
    share_cores(environment)
    assert environment == OURS


@pytest.mark.parametrize(
    "user",
    [
        {"OMP_WAIT_POLICY": "ACTIVE"},
        {"GOMP_SPINCOUNT": "infinity"},
        {"KMP_BLOCKTIME": "200"},
        {"GOMP_SPINCOUNT": "7", "OMP_NUM_THREADS": "3"},
    ],
)
def test_what_the_user_set_stands(user: dict[str, str]) -> None:
    environment = dict(user)
    share_cores(environment)
    assert environment == user


@pytest.mark.parametrize(
    ("quota", "cpus", "threads"),
    [
        (2.0, 64, "2"),
        (1.5, 64, "2"),
        (0.5, 2, "1"),
        (64.0, 64, None),
        (3.5, 2, None),
        (None, 8, None),
    ],
)
def test_threads_keep_to_the_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cpus: int, threads: str | None
) -> None:
    monkeypatch.setattr(openmp, "cpu_quota", lambda: quota)
    monkeypatch.setattr(openmp, "usable_cpus", lambda: cpus)
    environment: dict[str, str] = {}
    share_cores(environment)
    assert environment.get("OMP_NUM_THREADS") == threads


def test_a_number_of_threads_by_the_user_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "cpu_quota", lambda: 1.0)
    monkeypatch.setattr(openmp, "usable_cpus", lambda: 8)
    environment = {"OMP_NUM_THREADS": "6"}
    share_cores(environment)
    assert environment["OMP_NUM_THREADS"] == "6"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu_max": "150000 100000\n"}, 1.5),
        ({"cpu_max": "max 100000\n"}, None),
        ({"cpu_max": "100000\n"}, None),
        ({"cpu__cpu.cfs_quota_us": "400000\n", "cpu__cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu__cpu.cfs_quota_us": "-1\n", "cpu__cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_quotas_of_both_versions(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(_groups(tmp_path, **files)) == quota


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux binds processes to CPUs")
def test_usable_cpus_are_those_of_the_affinity() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


def _environment(code: str, **more: str) -> str:
    plain = {name: value for name, value in os.environ.items() if name not in NAMES}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=plain | more, capture_output=True, text=True, check=True
    )
    return ran.stdout


@pytest.mark.parametrize(
    "entry",
    [
        "import editcollapse",
        "import editcollapse.cli.main",
        "import flows.cli.main",
        "import flows.study",
        "import tasks.editing",
        "import editcollapse.units.edit",
    ],
)
def test_every_way_in_sets_it_before_torch(entry: str) -> None:
    """``torch`` is replaced by a module that prints the environment at its import."""
    spy = f"""
import sys, importlib.abc, importlib.machinery
class Spy(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            {REPORT}
            sys.stdout.flush()
            import os; os._exit(0)
sys.meta_path.insert(0, Spy())
{entry}
import torch
"""
    assert str(OURS)[1:-1] in _environment(spy)


def test_a_users_setting_reaches_torch() -> None:
    seen = _environment(f"import editcollapse; {REPORT}", OMP_WAIT_POLICY="ACTIVE")
    assert "'GOMP_SPINCOUNT': None" in seen
    assert "'OMP_WAIT_POLICY': 'ACTIVE'" in seen
