"""A run that is cancelled on the server where no worker watches it; what is tried again."""

import pytest

from editcollapse.config.study_file import read_study
from editcollapse.runtime.environment import OVERALL, listening
from tests.support.flow_runs import assert_equal_tables, units_computed

_CANCEL_AFTER = 9
"""Units: the preparation, and the first batch."""


@pytest.mark.slow
def test_run_without_a_worker_goes_on_to_its_end(study, backend, tmp_path, first_run):
    """Prefect stops processes of workers alone: this run ends whole, and stays Cancelling."""
    from prefect import get_client
    from prefect.context import FlowRunContext
    from prefect.states import Cancelling

    from flows.study import collapse_study

    def cancel(report):
        if report.what == OVERALL and report.done == _CANCEL_AFTER:
            run_id = FlowRunContext.get().flow_run.id
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(run_id, Cancelling(), force=True)

    results = tmp_path / "results"
    with listening(cancel):
        state = collapse_study(read_study(study), str(results), return_state=True)
    assert state.is_cancelling(), state
    assert set(units_computed(results).values()) == {1}
    assert_equal_tables(results, first_run.results)


def test_job_is_tried_again_after_a_transient_error(study, backend, tmp_path, monkeypatch):
    """A full device is waited for; a mistake is not: counted by how often the unit was tried."""
    from prefect import flow

    from editcollapse.errors import DatasetError, DeviceMemoryError
    from editcollapse.study.jobs import Manifest
    from editcollapse.study.plan import plan_study
    from tasks.units import unit_task

    tried = []

    def attempts(error):
        @unit_task(name="flaky", run_name="flaky", description="Fails twice.")
        def flaky(job):
            tried.append(type(error))
            if tried.count(type(error)) < 3:
                raise error
            return Manifest(unit_id="flaky", summary="made")

        @flow
        def tries():
            job = plan_study(read_study(study), tmp_path).models[0].templates
            quick = flaky.with_options(retry_delay_seconds=0.01, refresh_cache=True)
            return quick(job, return_state=True)

        return tries(return_state=True)

    assert attempts(DeviceMemoryError("full")).is_completed()
    assert attempts(DatasetError("no such file")).is_failed()
    assert tried.count(DeviceMemoryError) == 3
    assert tried.count(DatasetError) == 1
