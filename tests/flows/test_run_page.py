"""What a user finds on the server: which runs there are, what they are called and tagged with."""

import dataclasses

import pytest

from editcollapse.config.study_file import read_study
from editcollapse.study.jobs import RecordJob
from tests.support.flow_runs import sub_flow_runs


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
            return started(own_tags, RecordJob(results="r", rows=()))()

    assert study() == ["gpu"]
