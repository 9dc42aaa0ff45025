"""One study by the thread, Dask and Ray task runners: equal tables, with the wheel alone."""

from __future__ import annotations

import pytest

from tests.support.clusters import dask_cluster, make_worker_python, ray_cluster, run_on
from tests.support.flow_runs import assert_equal_tables, units_computed

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def worker_python(tmp_path_factory):
    """Return the Python of workers."""
    return make_worker_python(tmp_path_factory.mktemp("wheel"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_wheel_is_all_that_a_worker_needs(study, server, worker_python, first_run, tmp_path, kind):
    """Two workers that cannot import tasks, flows or storage compute what one thread does."""
    cluster = dask_cluster if kind == "dask" else ray_cluster
    with cluster(worker_python, tmp_path) as address:
        results = run_on(study, tmp_path, server, kind=kind, workers=2, address=address)
    assert_equal_tables(results, first_run.results)
    assert set(units_computed(results).values()) == {1}
