"""What a user finds on the server: names, tags and states of runs, and the event of collapses."""

import dataclasses
import re

import pytest

from editcollapse.config.spec import CollapseSpec
from editcollapse.config.study_file import read_study
from editcollapse.study.jobs import RecordJob
from flows.observe.run_names import dated, is_made_up
from flows.observe.run_page import report_link
from flows.run import outcome
from reports.headline import headline
from storage.ask import findings
from tests.support.flow_runs import sub_flow_runs
from tests.support.small_study import N_EDITS

_NOTHING = "Nothing had to be computed: data, models and settings are those of earlier runs."


@dataclasses.dataclass(frozen=True)
class Page:
    """A study's flow run and its sub-flows."""

    tags: set
    children: dict
    """Name to tags."""


@pytest.fixture(scope="module")
def page(backend, study, tmp_path_factory):
    """Return a function that runs a study of some models and looks at its page."""
    from prefect import get_client

    from flows.study import collapse_study

    def look(*names):
        spec = read_study(study)
        models = tuple(
            spec.models[0].model_copy(update={"name": name, "layer": layer})
            for layer, name in enumerate(names)
        )
        spec = spec.model_copy(update={"models": models, "methods": ("rome",)})
        folder = tmp_path_factory.mktemp("page")
        state = collapse_study(spec, str(folder), return_state=True)
        run_id = state.state_details.flow_run_id
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(run_id)
            children = sub_flow_runs(client, run_id)
        return Page(set(run.tags), {child.name: set(child.tags) for child in children})

    return look


@pytest.mark.slow
def test_study_of_one_model_has_one_page(page):
    """Its run says which study and model it is; its tasks are on it."""
    found = page("tiny")
    assert found.tags == {"study:small", "model:tiny", "method:rome"}
    assert found.children == {}


@pytest.mark.slow
def test_study_of_two_models_has_a_page_for_each(page):
    """Sub-flows are named after model, layer and methods and tagged with their own model alone."""
    found = page("one", "two")
    assert found.tags == {"study:small", "model:one", "model:two", "method:rome"}
    assert found.children == {
        "one layer 0, rome": {"study:small", "model:one", "method:rome"},
        "two layer 1, rome": {"study:small", "model:two", "method:rome"},
    }


@pytest.mark.parametrize("workers", [1, 2], ids=["own thread", "pool"])
def test_task_has_no_tags_of_its_flow(backend, workers):
    """A server is asked for slots by a task's tags: those of its flow are not among them."""
    from prefect import flow, tags, task
    from prefect.context import TaskRunContext
    from prefect.task_runners import ThreadPoolTaskRunner

    from flows.run.submit import started

    @task(tags=["gpu"])
    def own_tags(job):
        return sorted(TaskRunContext.get().task_run.tags)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=workers))
    def study():
        with tags("study:small"):
            return started(own_tags, RecordJob(results="r", rows=()))().result

    assert study() == ["gpu"]


def run_of(state):
    """Return the flow run that ended in a state, as the server has it."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id)


def test_run_says_what_it_found(first_run):
    """The state of a finished study has its sentence, what was computed, and its report."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        run = client.read_flow_run(first_run.flow_run_id)
    said = headline(findings(first_run.results, first_run.study_id))
    link = report_link(str(first_run.results), "small")
    expected = rf"{re.escape(said)} All \d+ jobs were computed\. Report: {re.escape(link)}"
    assert re.fullmatch(expected, run.state.message)
    assert re.fullmatch(r"small \d{4}-\d\d-\d\d \d\d:\d\d", run.name)


@pytest.fixture
def emitted(monkeypatch):
    """Return the events that runs emit."""
    events = []
    monkeypatch.setattr(outcome, "emit_event", lambda event, **more: events.append((event, more)))
    return events


def test_run_that_computes_nothing_says_so(study, results, emitted, caplog):
    """Neither does it tell of collapses again; the last lines of its log are those of its state."""
    from flows.study import collapse_study

    everything = CollapseSpec(threshold=None, ratio=1e-9)
    with caplog.at_level("INFO", logger="flows"):
        first, again = (
            collapse_study(read_study(study), str(results), everything, return_state=True)
            for _ in range(2)
        )
    assert _NOTHING in run_of(first).state.message  # another rule measures nothing anew
    message = run_of(again).state.message
    ours = [record for record in caplog.records if record.name == outcome.__name__]
    *_, last, link = (record.getMessage() for record in ours)
    assert message == f"{last} Report: {link.removeprefix('report: ')}"
    assert last.endswith(_NOTHING)
    assert len(emitted) == 1


def test_collapses_are_an_event(study, results, emitted):
    """It says how many of how many edits, in which words, and of which study."""
    from flows.study import collapse_study

    everything = CollapseSpec(threshold=None, ratio=1e-9)
    study_id = collapse_study(read_study(study), str(results), everything)
    ((event, more),) = emitted
    assert event == outcome.COLLAPSED
    assert more["resource"] == {
        "prefect.resource.id": f"editcollapse.study.{study_id}",
        "prefect.resource.name": "small",
        "editcollapse.n_collapsed": str(N_EDITS),
    }
    assert sum(row["n_collapsed"] for row in more["payload"]["incidence"]) == N_EDITS
    assert more["payload"]["headline"] == headline(findings(results, study_id, everything.rule))
    assert more["payload"]["report"] == report_link(str(results), "small")


def test_study_without_collapses_emits_none(first_run, emitted):
    """Nobody is told that nothing has happened."""
    never = CollapseSpec(threshold=None, ratio=None).rule
    found = findings(first_run.results, first_run.study_id, never)
    assert found.incidence.frame["n_collapsed"].sum() == 0
    outcome.tell_of_collapses(found, "", "")
    assert emitted == []


@pytest.mark.parametrize("name", ["before the upgrade", "my-test", "nightly", None])
def test_given_name_is_kept(backend, name):
    """A name that the server made up is replaced by what runs and when; any other stays."""
    from prefect import flow, get_client
    from prefect.flow_engine import run_flow

    @flow(flow_run_name=dated("forecast {study}"))
    def named(study):
        return study

    with get_client(sync_client=True) as client:
        run = client.create_flow_run(named, name=name, parameters={"study": "demo"})
        assert is_made_up(run.name) == (name is None)
        run_flow(named, flow_run=run, parameters={"study": "demo"})
        found = client.read_flow_run(run.id)
    due = f"forecast demo {found.expected_start_time:%Y-%m-%d %H:%M}"
    assert found.name == (due if name is None else name)


def test_names_of_prefect_are_known():
    """Whatever its server makes up is recognised."""
    from prefect.utilities.names import generate_slug

    made = [generate_slug(2) for _ in range(500)]
    assert [name for name in made if not is_made_up(name)] == []
    given = ("demo", "demo-2", "quick-check", "big", "small-small", "a-b-c")
    assert not any(map(is_made_up, given))
