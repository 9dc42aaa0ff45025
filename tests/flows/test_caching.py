"""The second run of a study computes nothing."""

from tests.flows.running import assert_equal_tables, records, tables, units_computed
from tests.flows.small_study import N_BATCHES, N_EDITS


def test_first_run_completes_every_task(first_run):
    """Nothing is cached in an empty folder; each unit is one task run with a name of its own."""
    per_batch = ("edit tiny layer 1", "evaluate tiny layer 1", "record tiny, batch")
    assert set(first_run.states.values()) == {"Completed"}
    for name in per_batch:
        assert sum(found.startswith(name) for found in first_run.states) == N_BATCHES
    assert len(first_run.states) == 3 * N_BATCHES + 6


def test_first_run_fills_the_tables(first_run):
    """Every edit of the grid has one row and one measurement."""
    found = tables(first_run.results)
    assert len(found["edits"]) == len(found["measurements"]) == N_EDITS


def test_second_run_is_cached(study, run_study, results, first_run):
    """Run again, every task run of the study and its sub-flows is Cached, and no number changes."""
    before = records(results)
    again = run_study(study, results)
    assert set(again.states.values()) == {"Cached"}
    assert again.states.keys() == first_run.states.keys()
    assert again.study_id == first_run.study_id
    assert records(results) == before
    assert set(units_computed(results).values()) == {1}
    assert_equal_tables(results, first_run.results)
