"""The second run of a study computes nothing."""

from storage.ask import ask
from tests.support.flow_runs import assert_equal_tables, manifests, tables, units_computed
from tests.support.small_study import N_BATCHES, N_EDITS, N_SHARDS

BEFORE_THE_MERGE = {
    "corpus tiny",
    "probes tiny",
    *(f"shard tiny, {index} of {N_SHARDS}" for index in range(1, N_SHARDS + 1)),
}
"""Task runs that make C and that nobody needs once it is there."""


def recorded(run):
    """Return the task runs that entered rows."""
    return {name for name in run.states if name.startswith("record ")}


def test_first_run_completes_every_task(first_run):
    """Nothing is cached in an empty folder; each unit is one task run with a name of its own."""
    assert set(first_run.states.values()) == {"Completed"}
    for name in ("edit tiny layer 1", "evaluate tiny layer 1"):
        assert sum(found.startswith(name) for found in first_run.states) == N_BATCHES
    assert len(first_run.states) == 2 * N_BATCHES + 4 + len(BEFORE_THE_MERGE)


def test_first_run_fills_the_tables(first_run):
    """Every edit of the grid has one row and one measurement."""
    found = tables(first_run.results)
    assert len(found["edits"]) == len(found["measurements"]) == N_EDITS


def test_provenance_names_study_and_model(first_run):
    """Each unit says who asked for it; the study was first run before any of them."""
    frame = ask(first_run.results, "from provenance")
    assert set(frame["study_id"]) == {first_run.study_id}
    assert set(frame["study"]) == {"small"}
    about_none = frame.filter(frame["model"].is_null())
    assert about_none["kind"].to_list() == ["study"]
    models = ask(first_run.results, "select model_id, name from study_models").rows()
    units = frame.filter(frame["model"].is_not_null())
    assert set(units.select("model_id", "model").rows()) == set(models)
    query = "select kind, first_run_at, last_run_at from studies"
    assert ask(first_run.results, query).row(0) == (
        "study",
        about_none["started_at"].item(),
        frame["started_at"].max(),
    )


def test_second_run_is_cached(study, run_study, results, first_run):
    """Run again, every task run is Cached, and no number changes.

    C is there: no shard is asked. The database has all rows: none is entered.
    """
    before = manifests(results)
    again = run_study(study, results)
    assert set(again.states.values()) == {"Cached"}
    unasked = BEFORE_THE_MERGE | recorded(first_run)
    assert again.states.keys() == first_run.states.keys() - unasked
    assert again.study_id == first_run.study_id
    assert manifests(results) == before
    assert set(units_computed(results).values()) == {1}
    assert_equal_tables(results, first_run.results)
