"""Progress on the run page: from 0 to 100, and never a reason to fail."""

import threading
import time
from uuid import UUID

import pytest

from editcollapse.runtime.environment import OVERALL, reporter
from flows.observe import run_page
from flows.observe.run_page import Part, shown_progress
from tests.support.flow_runs import artifact


@pytest.fixture
def often(monkeypatch):
    """Bring artifacts up to date at once instead of every five seconds."""
    monkeypatch.setattr(run_page, "EVERY_S", 0.02)


def wait_for(run_id, key, percent, words=""):
    """Return the artifact once it shows so many percent and says these words."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = artifact(run_id, key)
        if found is not None and float(found.data) == percent and words in found.description:
            return found
        time.sleep(0.05)
    pytest.fail(f"{key} does not show {percent} %: {found}")


def test_study_ends_at_a_hundred(first_run):
    """A finished study's progress is whole, says so, and is on the study's page."""
    found = artifact(first_run.flow_run_id, "progress-study-small")
    assert found.type == "progress"
    assert float(found.data) == 100
    assert found.description == "Progress of study small: done"


def test_progress_follows_units_and_parts_of_them(backend, often):
    """The bar counts finished units and how far the present one is; the words say which."""
    from prefect import flow
    from prefect.runtime import flow_run

    @flow
    def work():
        run_id, key = UUID(flow_run.id), "progress-study-x"
        with shown_progress("study", "x"):
            overall, unit = reporter(OVERALL, "job"), reporter("tiny: v* of batch 1", "step")
            assert wait_for(run_id, key, 0).description == "Progress of study x: starting"
            overall(1, 4)
            wait_for(run_id, key, 25)
            unit(1, 2)
            found = wait_for(run_id, key, 37.5)
            assert found.description == (
                r"Progress of study x: 1 of 4 jobs; now tiny: v\* of batch 1, step 1 of 2"
            )
        assert wait_for(run_id, key, 100).description == "Progress of study x: done"

    work()


def test_part_of_a_whole_counts_its_own_units(backend, often):
    """A model's bar starts at nought whatever was done before it, and its total stays."""
    from prefect import flow
    from prefect.runtime import flow_run

    @flow
    def work():
        run_id, key = UUID(flow_run.id), "progress-model-x"
        overall = reporter(OVERALL, "job")
        with shown_progress("model", "x", Part(done_before=10, n_jobs=4)):
            overall(11, 20)
            wait_for(run_id, key, 25, "1 of 4 jobs")
            overall(13, 20)
            wait_for(run_id, key, 75, "3 of 4 jobs")

    work()


def test_stopped_work_stays_where_it_was(backend, often):
    """An error leaves the bar where it was and passes through unchanged."""
    from prefect import flow

    @flow
    def work():
        with shown_progress("study", "y"):
            reporter(OVERALL, "job")(1, 4)
            raise KeyError("ours")

    state = work(return_state=True)
    with pytest.raises(KeyError, match="ours"):
        state.result()
    found = artifact(state.state_details.flow_run_id, "progress-study-y")
    assert float(found.data) == 25
    assert found.description == "Progress of study y: stopped after 1 of 4 jobs"


@pytest.mark.slow
def test_server_that_does_not_answer_is_logged_and_no_more(backend, often, caplog):
    """The work ends well and at its own pace; one warning says that progress is not shown."""
    from prefect import flow
    from prefect.context import SyncClientContext
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    @flow
    def work():
        nowhere = {PREFECT_API_URL: "http://127.0.0.1:1/api", PREFECT_CLIENT_MAX_RETRIES: 0}
        # Without the flow's own client, which is connected to the server of the tests.
        token = SyncClientContext.__var__.set(None)
        with temporary_settings(nowhere), shown_progress("study", "z"):
            report = reporter(OVERALL, "job")
            started = time.perf_counter()
            for unit in range(1000):
                report(unit, 1000)
            took = time.perf_counter() - started
            time.sleep(0.2)
        SyncClientContext.__var__.reset(token)
        return took

    assert work() < 0.5
    reported = [one for one in caplog.messages if one.startswith("progress is not shown for now")]
    assert len(reported) == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]
