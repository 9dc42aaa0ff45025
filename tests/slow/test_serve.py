"""make server and deploy, on a real server: addresses, registration, runs, ends."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from reports.headline import headline
from storage.ask import ask, findings
from tests.slow.served import WORKER_STARTED, descendants, listening, served, stop, worker_of
from tests.support.flow_runs import environment, units_computed
from tests.support.small_study import N_EDITS, write_study

pytestmark = [pytest.mark.slow, pytest.mark.server]
_LOOPBACK = "0100007F"
"""127.0.0.1 in /proc/net/tcp."""
_NAMES = {
    "collapse-study",
    "precompute-covariance",
    "reevaluate",
    "collapse-forecast",
    "collapse-anatomy",
}
PASSWORD = "reader:of-studies"


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """Return a served results folder with the project's deployments."""
    with served(tmp_path_factory.mktemp("served")) as found:
        done = found.flows("deploy", "--results", found.results)
        assert done.returncode == 0, done.stdout + done.stderr
        yield found


def _registered(serving):
    """Return the ids of deployments, pools and automations by name; twice a name is an error."""
    found = {}
    for what in ("deployments", "work_pools", "automations"):
        rows = serving.ask(f"{what}/filter", {})
        found[what] = {row["name"]: row["id"] for row in rows}
        assert len(found[what]) == len(rows), rows
    return found


def test_everything_listens_on_loopback_alone(serving):
    """Neither the server nor the pages can be reached from another machine."""
    assert listening(serving.port) == {_LOOPBACK}
    assert listening(serving.port + 1) == {_LOOPBACK}


def test_server_has_the_settings_of_the_project(serving):
    """Task runs are recorded in batches, events too, and nothing is sent to anyone."""
    settings = serving.ask("admin/settings")
    services = settings["server"]["services"]
    assert services["task_run_recorder"]["batch_size"] == 200
    assert services["event_persister"]["batch_size"] == 500
    assert not settings["server"]["analytics_enabled"]
    assert settings["home"] == str(serving.results / "server")


def test_deploy_twice_registers_once(serving):
    """Deployments, pool and automations are the same after a second time."""
    before = _registered(serving)
    assert before["deployments"].keys() == _NAMES
    assert before["work_pools"].keys() == {"gpu"}
    done = serving.flows("deploy", "--results", serving.results)
    assert done.returncode == 0, done.stderr
    after = _registered(serving)
    assert after == before
    (pool,) = serving.ask("work_pools/filter", {})
    assert pool["concurrency_limit"] == 1


def test_scheduler_makes_the_coming_runs(serving):
    """Scheduled runs of both schedules are there, with the whole study as their parameter."""
    deadline = time.monotonic() + 90
    asked = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    while True:
        runs = serving.ask("flow_runs/filter", asked)
        if len({run["deployment_id"] for run in runs}) == 2:
            break
        assert time.monotonic() < deadline, "the scheduler made no runs"
        time.sleep(1)
    assert {run["parameters"]["study"]["name"] for run in runs} == {"scheduled"}
    assert all(
        "T02:00:00" in run["expected_start_time"] or "T06:00:00" in run["expected_start_time"]
        for run in runs
    )


@pytest.fixture(scope="module")
def messages(serving):
    """Return the messages that the server sends, as they come, once it is asked to tell."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.settings import PREFECT_API_URL, temporary_settings

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
        url = f"http://127.0.0.1:{receiver.server_port}/"
        with temporary_settings({PREFECT_API_URL: serving.api}):
            CustomWebhookNotificationBlock(
                name="team", url=url, json_data={"subject": "{{subject}}", "body": "{{body}}"}
            ).save("team")
        done = serving.flows(
            "deploy", "--results", serving.results, "--notify", "custom-webhook/team"
        )
        assert done.returncode == 0, done.stderr
        assert "automation tell of collapses, by custom-webhook/team" in done.stdout
        yield received
        receiver.shutdown()


def _message(received, subject):
    deadline = time.monotonic() + 60
    while not (found := [each for each in received if each["subject"] == subject]):
        assert time.monotonic() < deadline, received
        time.sleep(0.2)
    (message,) = found
    return message["body"]


def test_lines_of_deploy_start_a_run(serving, messages):
    """Copied to a new shell they start the study, under a name that is given and kept.

    What it found is its state's message, on the page of the reports, and told as a message.
    """
    done = serving.flows("deploy", "--results", serving.results)
    assert done.stdout.endswith(f"\nPrefect's pages: {serving.api.removesuffix('/api')}\n")
    lines = done.stdout.splitlines()
    at = lines.index(f"export PREFECT_API_URL={serving.api}")
    script = f"{lines[at]}\n{lines[at + 1]} --flow-run-name 'before the upgrade'"
    shell = ["bash", "-euc", script]
    subprocess.run(shell, env=environment(serving.home), cwd=serving.home, check=True, timeout=120)
    (run,) = serving.finished("collapse-study", 1)
    assert run["name"] == "before the upgrade"
    said = headline(findings(serving.results, run_study_id(serving.results)))
    page = f"http://127.0.0.1:{serving.port + 1}"
    assert said.startswith("ROME collapsed ")
    assert run["state"]["message"].startswith(f"{said} ")
    assert run["state"]["message"].endswith(f" Report: {page}/scheduled.html")
    with urllib.request.urlopen(f"{page}/", timeout=10) as answer:  # noqa: S310  ours
        assert said in answer.read().decode()
    body = _message(messages, "scheduled: edits collapsed a model")
    assert body.startswith(f"{said} Report: {page}/scheduled.html http://127.0.0.1:{serving.port}/")


def run_study_id(results):
    """Return the id of the only study of a results folder."""
    return ask(results, "select study_id from studies")["study_id"].item()


def test_failed_run_is_told(serving, messages):
    """A run that fails sends what its state says."""
    ids = _registered(serving)["deployments"]
    deployment = serving.ask(f"deployments/{ids['precompute-covariance']}")
    study = deployment["parameters"]["study"] | {"dataset": {"path": "nowhere.json"}}
    asked = {"name": "a mistake", "parameters": {"study": study}}
    serving.ask(f"deployments/{ids['precompute-covariance']}/create_flow_run", asked)
    assert "nowhere.json" in _message(messages, "a mistake: Failed")


def test_deployments_run_as_they_stand(serving):
    """Each one, started without a word, completes and says what it found."""
    ids = _registered(serving)["deployments"]
    said = {
        "precompute-covariance": (2, "Second moments: "),
        "collapse-study": (2, "ROME collapsed "),
        "reevaluate": (1, "On 20 texts of texts: ROME collapsed "),
        "collapse-forecast": (1, "Of 32 edits of gpt2-induced, by ROME "),
    }
    for name, (number, words) in said.items():
        serving.ask(f"deployments/{ids[name]}/create_flow_run", {})
        run = serving.finished(name, number)[-1]
        message = run["state"]["message"]
        print(f"{run['name']}: {message}")
        assert run["state_type"] == "COMPLETED", message
        assert message.startswith(words)
        nothing = "Nothing had to be computed" in message
        assert nothing == (name in {"precompute-covariance", "collapse-study"})
    found = ask(
        serving.results, "select n_texts, count(*) as n from measurements group by all order by all"
    )
    assert found.rows() == [(20, 128), (50, 128)]


def test_commands_run_against_the_server(serving, tmp_path):
    """The second moments, the study, and its edits on other texts, each by its command."""
    study, results = write_study(tmp_path / "inputs"), tmp_path / "results"
    done = serving.flows("covariance", study, "--results", results)
    assert done.returncode == 0, done.stderr
    assert "tiny: covariance " in done.stdout
    done = serving.flows("run", study, "--results", results)
    assert done.returncode == 0, done.stderr
    texts = ("--texts", "demo/texts.jsonl", "--max-texts", "4")
    done = serving.flows("reevaluate", study, *texts, "--results", results)
    assert done.returncode == 0, done.stderr
    study_id = done.stdout.split("recorded as study_id ")[1].split()[0]
    found = ask(results, "select study_id, n_texts, count(*) as n from edit_outcomes group by all")
    assert (study_id, 4, N_EDITS) in found.rows()
    assert set(units_computed(results).values()) == {1}


def test_worker_knows_where_reports_are_served(serving):
    """A page in the reports folder is served, and the worker is told the address."""
    (serving.results / "reports" / "page.html").write_text("<p>found</p>")
    address = f"http://127.0.0.1:{serving.port + 1}"
    with urllib.request.urlopen(f"{address}/page.html", timeout=10) as answer:  # noqa: S310
        assert answer.read() == b"<p>found</p>"
    with open(f"/proc/{worker_of(serving)}/environ", encoding="utf-8") as stream:  # noqa: PTH123
        assert f"EDITCOLLAPSE_REPORTS_URL={address}" in stream.read().split("\0")


def test_dead_worker_is_said_and_replaced(serving):
    """A worker that is killed is named with its status, and another one takes its place."""
    worker = worker_of(serving)
    os.kill(worker, signal.SIGKILL)
    serving.wait_for("the worker ended with status 137")
    serving.wait_for(WORKER_STARTED, times=2)
    assert worker_of(serving) != worker


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_signal_ends_all(tmp_path, number):
    """Started where SIGINT is ignored, as by a script's &, it still ends with all its processes."""
    with served(tmp_path / "s", behind_shell=True) as found:
        own = descendants(found.process.pid)
        for part in ("/prefect server start", "/prefect worker start", "http.server"):
            assert any(part in line for line in own.values()), own
        stop(found, number)
        deadline = time.monotonic() + 30
        while any(_alive(pid) for pid in own):
            assert time.monotonic() < deadline, [own[pid] for pid in own if _alive(pid)]
            time.sleep(0.2)
        assert listening(found.port) == listening(found.port + 1) == set()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_password_is_asked_for(tmp_path):
    """Without the password a request is refused and so are our commands; with it a study runs."""
    study = write_study(tmp_path / "inputs")
    with served(tmp_path / "s", password=PASSWORD) as found:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{found.api}/admin/version", timeout=10)  # noqa: S310
        refused.value.close()
        assert refused.value.code == 401
        done = found.flows("deploy", PREFECT_API_AUTH_STRING="reader:wrong")
        assert done.returncode == 2
        assert "wants a password" in done.stderr
        assert found.ask("deployments/filter", {}) == []
        done = found.flows("run", study, "--results", found.results)
        assert done.returncode == 0, done.stderr
        (run,) = found.ask("flow_runs/filter", {})
        assert (run["name"][:8], run["state_name"]) == ("small 20", "Completed")
        done = found.flows("deploy", "--results", found.results)
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in found.words()
