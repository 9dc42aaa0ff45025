"""A run that is cancelled stops before its next unit, and a later run goes on from there."""

import pytest

from editcollapse.config.study_file import read_study
from editcollapse.runtime.environment import OVERALL, listening
from tests.support.flow_runs import assert_equal_tables, units_computed

_CANCEL_AFTER = 9
"""Units: the preparation, and the first batch."""


@pytest.fixture
def cancelled(study, backend, tmp_path, monkeypatch):
    """Run the small study, cancel it on the server after some units; return results and state."""
    from prefect import get_client
    from prefect.context import FlowRunContext
    from prefect.states import Cancelling

    from flows import cancelling
    from flows.study import collapse_study

    monkeypatch.setattr(cancelling, "_EVERY_S", 0.0)

    def cancel(what, done, total):
        if what == OVERALL and done == _CANCEL_AFTER:
            run_id = FlowRunContext.get().flow_run.id
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(run_id, Cancelling(), force=True)

    with listening(cancel):
        state = collapse_study(read_study(study), str(tmp_path / "results"), return_state=True)
    return tmp_path / "results", state


def test_cancelled_run_stops_before_the_next_unit(cancelled, run_study, study, first_run):
    """It ends as Cancelled, says what to do, and has computed no unit after the request."""
    results, state = cancelled
    assert state.is_cancelled()
    assert "goes on from there" in state.message
    before = units_computed(results)
    assert 0 < sum(before.values()) <= _CANCEL_AFTER
    again = run_study(study, results)
    assert again.computed("edit ") == 3
    assert set(units_computed(results).values()) == {1}
    assert_equal_tables(results, first_run.results)


def test_silent_server_stops_no_run(study, backend, monkeypatch, caplog):
    """Where the server cannot be asked the run goes on, and says so."""
    from prefect import flow

    from flows import cancelling

    @flow
    def watched():
        watch = cancelling.CancellationWatch()
        monkeypatch.setattr(cancelling, "_EVERY_S", 0.0)
        monkeypatch.setattr(cancelling, "get_client", _unreachable)
        watch.check()
        return "went on"

    assert watched() == "went on"
    assert "could not ask whether the run is cancelled" in caplog.text


def _unreachable(**_):
    raise ConnectionRefusedError("connection refused")


def test_unit_is_tried_again_after_what_may_pass(study, backend, tmp_path, monkeypatch):
    """A full device is waited for; a mistake is not: counted by how often the unit was tried."""
    from prefect import flow

    from editcollapse.errors import DatasetError, DeviceMemoryError
    from editcollapse.study.jobs import Manifest
    from editcollapse.study.plan import plan_study
    from tasks.units import unit_task

    tried = []

    def attempts(error):
        @unit_task(name="flaky", run_name="flaky", description="Fails twice.")
        def flaky(order):
            tried.append(type(error))
            if tried.count(type(error)) < 3:
                raise error
            return Manifest(unit_id="flaky", summary="made")

        @flow
        def tries():
            order = plan_study(read_study(study), tmp_path).models[0].templates
            quick = flaky.with_options(retry_delay_seconds=0.01, refresh_cache=True)
            return quick(order, return_state=True)

        return tries(return_state=True)

    assert attempts(DeviceMemoryError("full")).is_completed()
    assert attempts(DatasetError("no such file")).is_failed()
    assert tried.count(DeviceMemoryError) == 3
    assert tried.count(DatasetError) == 1
