"""The second moments alone, ahead of a study: the same units, and nothing but them."""

import shutil

import pytest

from editcollapse.config.study_file import read_study
from storage.ask import ask
from tests.support.flow_runs import manifests, units_computed
from tests.support.small_study import N_SHARDS

_KINDS = {"templates": 1, "corpus": 1, "shard": N_SHARDS, "probes": 1, "covariance": 1}
"""Records that a night leaves, by kind."""


@pytest.fixture(scope="module")
def night(backend, study, tmp_path_factory):
    """Return the results folder of a precomputation, and the ids that it returned."""
    from flows.precompute import precompute_covariance

    results = tmp_path_factory.mktemp("night") / "results"
    return results, precompute_covariance(read_study(study), str(results))


def test_only_what_makes_the_moment_is_computed(night):
    """Templates, corpus, shards, probes and C have records; edits and evaluations have none."""
    results, _ = night
    assert {kind: len(manifests(results, f"{kind}-")) for kind in _KINDS} == _KINDS
    assert len(manifests(results)) == sum(_KINDS.values())


def test_rows_are_recorded_and_published(night):
    """The covariance has its row where readers look; no study, edit or measurement has."""
    results, ids = night
    found = ask(results, "select covariance_id, n_tokens from covariances")
    assert found["covariance_id"].to_list() == ids
    assert found["n_tokens"].item() > 0
    for table in ("studies", "edits", "measurements"):
        assert ask(results, f"from {table}").is_empty()


@pytest.mark.slow
def test_study_finds_what_the_night_left(night, study, run_study, first_run, tmp_path):
    """The study after it computes none of those units again, and ends with the same numbers."""
    left, ids = night
    results = shutil.copytree(left, tmp_path / "results", copy_function=shutil.copy2)
    before = manifests(results)
    run = run_study(study, results)
    assert {name: state for name, state in run.states.items() if state == "Cached"} == {
        "templates tiny": "Cached",
        "covariance tiny layer 1": "Cached",
    }
    after = manifests(results)
    assert {name: after[name] for name in before} == before
    assert set(units_computed(results).values()) == {1}
    assert (
        ids == ask(first_run.results, "select covariance_id from covariances").to_series().to_list()
    )


def test_second_night_changes_nothing(night, study):
    """Run again, nothing is computed and the snapshot stays the file that it was."""
    from flows.precompute import precompute_covariance

    results, ids = night
    snapshot = results / "results.duckdb"
    before = snapshot.stat().st_mtime_ns, manifests(results)
    assert precompute_covariance(read_study(study), str(results)) == ids
    assert (snapshot.stat().st_mtime_ns, manifests(results)) == before
