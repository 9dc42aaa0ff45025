"""Events of runs: their numbers, what they are about, how often; and a run without them."""

import json
import shutil
from collections import Counter

import pytest
import yaml

from editcollapse.config.spec import CollapseSpec
from editcollapse.config.study_file import read_study
from flows.run import event_payloads, events
from flows.run.events import (
    CHECK_COLLAPSED,
    EDIT_COLLAPSED,
    EDIT_REFUSED,
    SEQUENCE_COLLAPSED,
    STUDY_FINISHED,
)
from storage.ask import ask
from tests.support.small_study import N_EDITS, write_toml

EVERYTHING = CollapseSpec(threshold=None, ratio=1e-9)
"""A rule by which every edit collapses its model."""
_OF_OUTCOME = ("perplexity", "perplexity_before", "perplexity_ratio", "denominator", "rho")


@pytest.fixture
def told(backend):
    """Return a function that returns the events of ours since it was last called."""
    from prefect.events.clients import AssertingPassthroughEventsClient as Client
    from prefect.events.worker import EventsWorker

    def ours():
        EventsWorker.drain_all()
        found = [event for client in Client.all for event in client.events]
        Client.reset()
        return [event for event in found if event.event.startswith("editcollapse.")]

    EventsWorker.drain_all()
    Client.reset()
    EventsWorker.set_client_override(Client)
    yield ours
    EventsWorker.drain_all()
    EventsWorker.set_client_override(None)
    Client.reset()


@pytest.fixture
def emitted(monkeypatch):
    """Return the names and payloads of events, which go nowhere."""
    found = []

    def emit(event, *, payload, **_):
        json.dumps(payload, allow_nan=False)
        found.append((event, payload))

    monkeypatch.setattr(events, "emit_event", emit)
    return found


def run(study, results, rule=EVERYTHING):
    """Run a study and return its id."""
    from flows.study import collapse_study

    return collapse_study(read_study(study), str(results), rule)


def named(found, event):
    """Return the payloads of one event."""
    return [each.payload for each in found if each.event == event]


def test_collapsed_edits_are_told_once_with_their_numbers(study, told, tmp_path):
    """Each is an event with what the database says of it; a second run computes and tells none."""
    results = tmp_path / "results"
    study_id = run(study, results)
    found = told()
    outcomes = {row["edit_id"]: row for row in ask(results, "from edit_outcomes").to_dicts()}
    payloads = {each["edit_id"]: each for each in named(found, EDIT_COLLAPSED.event)}
    assert payloads.keys() == outcomes.keys()
    assert len(named(found, EDIT_COLLAPSED.event)) == N_EDITS
    for edit_id, payload in payloads.items():
        row = outcomes[edit_id]
        assert [payload[name] for name in _OF_OUTCOME] == [row[name] for name in _OF_OUTCOME]
        for name in ("case_id", "record_index", "request_id", "subject", "prompt", "target_new"):
            assert payload["request"][name] == row[name]
        for name in ("study", "study_id", "model", "model_id", "method", "layer"):
            assert payload[name] == row[name]
        assert payload["rule"] == {"threshold": None, "ratio": 1e-9, "measure": "mean"}
    (first, *_) = (event for event in found if event.event == EDIT_COLLAPSED.event)
    assert first.resource["prefect.resource.id"].startswith("editcollapse.edit.")
    assert first.resource["editcollapse.model"] == "tiny"
    roles = {related.role: related.id for related in first.related}
    assert roles["study"] == f"editcollapse.study.{study_id}"
    assert roles["flow-run"].startswith("prefect.flow-run.")
    (finished,) = named(found, STUDY_FINISHED)
    assert (finished["n_collapsed"], finished["study_id"]) == (N_EDITS, study_id)
    assert finished["n_computed"] == finished["n_jobs"] > 0
    run(study, results)
    again = told()
    assert named(again, EDIT_COLLAPSED.event) == []
    (finished,) = named(again, STUDY_FINISHED)
    assert (finished["n_collapsed"], finished["n_computed"]) == (N_EDITS, 0)


def test_refused_edits_are_told_once(study, results, emitted):
    """Each is an event with its bound and the guard's; also where its forecast was cached."""
    spec = write_toml(
        study.with_name("guarded_events.toml"),
        name="guarded",
        methods=["rome", "c_rome"],
        **{"guard.policy": "refuse", "guard.at_risk_at": 1e-9, "guard.collapse_at": 1e9},
    )
    study_id = run(spec, results)
    query = f"from guard_outcomes where study_id = '{study_id}' and decision = 'refused'"
    rows = {(row["request_id"], row["method"]): row for row in ask(results, query).to_dicts()}
    payloads = [payload for event, payload in emitted if event == EDIT_REFUSED.event]
    assert len(payloads) == len(rows) > 0
    for payload in payloads:
        row = rows[payload["request"]["request_id"], payload["method"]]
        assert payload["text_change_bound"] == row["text_change_bound"]
        assert payload["request"]["case_id"] == row["case_id"]
        assert (payload["policy"], payload["at_risk_at"]) == ("refuse", 1e-9)
        assert payload["reason"] == row["reason"]
    assert [event for event, _ in emitted if event == EDIT_COLLAPSED.event] == []
    emitted.clear()
    run(spec, results)
    assert [event for event, _ in emitted] == [STUDY_FINISHED]


@pytest.mark.slow
def test_collapsed_sequences_are_told_once(study, results, emitted):
    """The first checkpoint of collapse is an event; a longer sequence does not tell it again."""
    changes = {
        "name": "in_a_row",
        "methods": ["rome"],
        "sequence.editors": ["rome"],
        "sequence.orders": 2,
        "sequence.n_edits": 4,
        "sequence.chunk_steps": 2,
        "sequence.checkpoints": [1, 2],
    }
    spec = write_toml(study.with_name("sequence_events.toml"), **changes)
    run(spec, results)
    payloads = [payload for event, payload in emitted if event == SEQUENCE_COLLAPSED.event]
    assert len({payload["sequence_id"] for payload in payloads}) == len(payloads) == 2
    outcomes = ask(results, "from sequence_outcomes where n_edits = 1").to_dicts()
    expected = {row["sequence_id"]: row["perplexity"] for row in outcomes}
    assert {each["sequence_id"]: each["perplexity"] for each in payloads} == expected
    assert {(each["n_edits"], each["last_alive"]) for each in payloads} == {(1, 0)}
    emitted.clear()
    run(write_toml(spec, **(changes | {"sequence.n_edits": 6})), results)
    assert {event for event, _ in emitted} == {STUDY_FINISHED}


@pytest.mark.slow
def test_steps_that_a_guard_undoes_are_told(study, results, emitted):
    """Each step of a sequence that is skipped is an event with the bound."""
    spec = write_toml(
        study.with_name("skipping_events.toml"),
        name="skipping",
        methods=["rome"],
        **{
            "sequence.editors": ["rome"],
            "sequence.orders": 1,
            "sequence.n_edits": 3,
            "sequence.guard.policy": "skip",
            "sequence.guard.text_change": 1e-9,
        },
    )
    run(spec, results, CollapseSpec(threshold=None, ratio=1e9))
    steps = [payload for event, payload in emitted if event == "editcollapse.step.refused"]
    assert [(each["step"], each["decision"]) for each in steps] == [
        (step, "skipped") for step in (1, 2, 3)
    ]
    assert {each["guard_bound"] for each in steps} == {1e-9}


@pytest.mark.slow
def test_many_are_told_together(study, emitted, monkeypatch, tmp_path, backend):
    """Beyond the single ones they are counted; single ones and counts make up all of them."""
    monkeypatch.setattr(events, "SINGLE", 5)
    monkeypatch.setattr(events, "TOGETHER", 8)
    run(study, tmp_path / "results")
    kinds = Counter(event for event, _ in emitted)
    together = [payload for event, payload in emitted if event == EDIT_COLLAPSED.together]
    assert kinds[EDIT_COLLAPSED.event] == 5
    assert [each["n"] for each in together] == [8, 8, 3]
    assert together[-1]["n_so_far"] == 5 + sum(each["n"] for each in together) == N_EDITS
    assert all(sum(one["n"] for one in each["counts"]) == each["n"] for each in together)
    assert {one["model"] for each in together for one in each["counts"]} == {"tiny"}


@pytest.mark.slow
def test_run_without_a_way_to_tell_is_a_run(study, monkeypatch, tmp_path, backend, caplog):
    """Whatever becomes of events is a line in the log, and the study is whole."""

    def refuse(*_, **__):
        raise ConnectionError("nobody there")

    monkeypatch.setattr(events, "emit_event", refuse)
    study_id = run(study, tmp_path / "results")
    edits = ask(tmp_path / "results", "from edit_outcomes")
    assert edits["study_id"].to_list() == [study_id] * N_EDITS
    said = {record.getMessage() for record in caplog.records if record.name == events.__name__}
    assert "no event tells of collapsed edits: nobody there" in said
    assert "no event tells of a finished study: nobody there" in said


def test_numbers_that_json_lacks_are_words(tmp_path):
    """What is nan or inf reaches a server as NaN and Infinity, as in every --json of ours."""
    counted = event_payloads.Counted("tiny", "rome", 1)
    told = event_payloads.ToldTogether("s", "0", 1, 1, (counted,))
    assert events._plain(told)["counts"] == [{"model": "tiny", "method": "rome", "n": 1}]
    about = event_payloads.AboutRun("s", "0", "tiny", "m", "rome")
    inf, nan = float("inf"), float("nan")
    rule = EVERYTHING.rule
    gone = event_payloads.CollapsedSequence(about, "q", 0, 1, 3, 2, inf, 7.5, nan, rule)
    found = json.loads(json.dumps(events._plain(gone), allow_nan=False))
    shown = (found["perplexity"], found["perplexity_before"], found["perplexity_ratio"])
    assert shown == ("Infinity", 7.5, "NaN")
    assert (found["study"], found["method"]) == ("s", "rome")


@pytest.mark.slow
def test_batch_that_was_measured_elsewhere_is_not_told(study, results, emitted):
    """A study that finds its edits cached under another name tells only that it has finished."""
    copy = shutil.copytree(results, results.with_name("other"), copy_function=shutil.copy2)
    spec = write_toml(study.with_name("renamed_events.toml"), name="renamed")
    run(spec, copy)
    assert [event for event, _ in emitted] == [STUDY_FINISHED]


def test_example_of_webhooks_waits_for_every_event():
    """The automations of deploy/webhooks.yaml expect all events that a run emits, each one once."""
    from flows.deploy.register import WEBHOOKS

    rules = yaml.safe_load(WEBHOOKS.read_text(encoding="utf-8"))["automations"]
    expected = [name for rule in rules for name in rule["trigger"]["expect"]]
    names = [name for kind in events.KINDS for name in (kind.event, kind.together)]
    assert sorted(expected) == sorted([*names, STUDY_FINISHED, CHECK_COLLAPSED])
