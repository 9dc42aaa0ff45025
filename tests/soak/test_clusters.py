"""One study by the thread, Dask and Ray task runners: equal tables, with the wheel alone."""

from __future__ import annotations

import pytest

from tests.flows.running import assert_equal_tables, run_command, units_computed
from tests.flows.small_study import write_toml
from tests.soak.clusters import dask_cluster, make_worker_python, ray_cluster

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.fixture(scope="module")
def worker_python(tmp_path_factory):
    """Return the Python of workers."""
    return make_worker_python(tmp_path_factory.mktemp("wheel"))


def _run(study, folder, server, **runner):
    """Run the small study on a cluster; return its results folder."""
    changes = {f"runner.{name}": value for name, value in runner.items()}
    file = write_toml(study.parent / f"{folder.name}.toml", **{"models.source": "model"}, **changes)
    results = folder / "results"
    done = run_command("run", file, "--results", results, home=folder, PREFECT_API_URL=server)
    assert done.returncode == 0, done.stdout + done.stderr
    return results


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_wheel_is_all_that_a_worker_needs(study, server, worker_python, first_run, tmp_path, kind):
    """Two workers that cannot import tasks, flows or storage compute what one thread does."""
    cluster = dask_cluster if kind == "dask" else ray_cluster
    with cluster(worker_python, tmp_path) as address:
        results = _run(study, tmp_path, server, kind=kind, workers=2, address=address)
    assert_equal_tables(results, first_run.results)
    assert set(units_computed(results).values()) == {1}


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_cluster_of_its_own(study, server, first_run, tmp_path, kind):
    """Without an address the run starts two workers on this machine, and they end with it."""
    results = _run(study, tmp_path, server, kind=kind, workers=2)
    assert_equal_tables(results, first_run.results)
    assert set(units_computed(results).values()) == {1}
