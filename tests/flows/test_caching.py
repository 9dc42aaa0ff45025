"""The second run of a study computes nothing."""

from tests.flows.running import assert_equal_tables, records, tables, units_computed
from tests.flows.small_study import N_BATCHES, N_EDITS, N_SHARDS

BEFORE_THE_MERGE = {
    "corpus tiny",
    "probes tiny",
    *(f"shard tiny, {index} of {N_SHARDS}" for index in range(1, N_SHARDS + 1)),
}
"""Task runs that make C and that nobody needs once it is there."""


def test_first_run_completes_every_task(first_run):
    """Nothing is cached in an empty folder; each unit is one task run with a name of its own."""
    per_batch = ("edit tiny layer 1", "evaluate tiny layer 1", "record tiny, batch")
    assert set(first_run.states.values()) == {"Completed"}
    for name in per_batch:
        assert sum(found.startswith(name) for found in first_run.states) == N_BATCHES
    assert len(first_run.states) == 3 * N_BATCHES + 6 + len(BEFORE_THE_MERGE)


def test_first_run_fills_the_tables(first_run):
    """Every edit of the grid has one row and one measurement."""
    found = tables(first_run.results)
    assert len(found["edits"]) == len(found["measurements"]) == N_EDITS


def test_second_run_is_cached(study, run_study, results, first_run):
    """Run again, every task run is Cached, and no number changes; C is there: no shard is asked."""
    before = records(results)
    again = run_study(study, results)
    assert set(again.states.values()) == {"Cached"}
    assert again.states.keys() == first_run.states.keys() - BEFORE_THE_MERGE
    assert again.study_id == first_run.study_id
    assert records(results) == before
    assert set(units_computed(results).values()) == {1}
    assert_equal_tables(results, first_run.results)
