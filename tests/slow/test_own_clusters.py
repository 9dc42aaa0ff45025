"""Clusters that a run starts itself, by Dask and by Ray."""

from __future__ import annotations

import pytest

from tests.support.clusters import run_on
from tests.support.flow_runs import assert_equal_tables, units_computed

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_cluster_of_its_own(study, server, first_run, tmp_path, kind):
    """Without an address the run starts two workers on this machine, and they end with it."""
    results = run_on(study, tmp_path, server, kind=kind, workers=2)
    assert_equal_tables(results, first_run.results)
    assert set(units_computed(results).values()) == {1}
