"""Automations of a real server act on the events of a study that is run by another process."""

import http.server
import json
import threading
import time

import pytest

from storage.ask import ask
from tests.support.flow_fixtures import prefect_server
from tests.support.flow_runs import run_command
from tests.support.small_study import write_study

pytestmark = [pytest.mark.server, pytest.mark.slow]
_PATIENCE_S = 90.0


@pytest.fixture
def called():
    """Return the address of a webhook and what it is sent, as it comes."""
    received = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{receiver.server_port}/", received
        receiver.shutdown()


def until(is_done, about):
    """Wait until something is so; else say what is."""
    deadline = time.monotonic() + _PATIENCE_S
    while not is_done():
        assert time.monotonic() < deadline, about()
        time.sleep(0.1)


def test_automations_receive_collapses_and_act(called, tmp_path):
    """A webhook is called with every collapsed edit's numbers and the study's; a pool is paused."""
    from prefect import get_client
    from prefect.blocks.webhook import Webhook
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.events.actions import PauseWorkPool
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.deploy.register import WEBHOOKS, register_automations
    from flows.run.events import EDIT_COLLAPSED, STUDY_FINISHED

    address, received = called
    study = write_study(tmp_path / "inputs", methods=["rome"], **{"collapse.ratio": 1e-9})
    results = tmp_path / "results"
    home = tmp_path / "server"
    home.mkdir()
    with (
        prefect_server(home, acts=True) as url,
        temporary_settings({PREFECT_API_URL: url}),
        get_client(sync_client=True) as client,
    ):
        block_id = Webhook(url=address).save("collapses")
        assert len(list(register_automations(client, WEBHOOKS, block_id))) == 2
        pool = client.create_work_pool(WorkPoolCreate(name="gpu", type="process"))
        assert not pool.is_paused
        trigger = EventTrigger(
            posture=Posture.Reactive,
            match={"editcollapse.method": "rome"},
            expect={EDIT_COLLAPSED.event},
            threshold=3,
        )
        stop = PauseWorkPool(source="selected", work_pool_id=pool.id)
        client.create_automation(
            AutomationCore(name="stop after three collapses", trigger=trigger, actions=[stop])
        )
        home_of_run = tmp_path / "home"
        home_of_run.mkdir()
        done = run_command(
            "run", study, "--results", results, home=home_of_run, PREFECT_API_URL=url
        )
        assert done.returncode == 0, done.stderr
        edits = {row["edit_id"]: row for row in ask(results, "from edit_outcomes").to_dicts()}
        assert edits
        until(lambda: len(received) == len(edits) + 1, lambda: received)
        until(lambda: client.read_work_pool("gpu").is_paused, lambda: client.read_work_pool("gpu"))
    numbers = {
        each["numbers"]["edit_id"]: each["numbers"]
        for each in received
        if each["event"] == EDIT_COLLAPSED.event
    }
    assert numbers.keys() == edits.keys()
    for edit_id, told in numbers.items():
        assert told["perplexity"] == pytest.approx(edits[edit_id]["perplexity"])
        assert told["request"]["subject"] == edits[edit_id]["subject"]
    (finished,) = (each["numbers"] for each in received if each["event"] == STUDY_FINISHED)
    assert finished["n_collapsed"] == len(edits)
