"""What a user finds on the server: which runs there are, what they are called and tagged with."""

import dataclasses

import pytest

from editcollapse.study_files import read_study


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
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterParentFlowRunId,
    )

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
        parent = FlowRunFilterParentFlowRunId(any_=[run_id])
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(run_id)
            children = client.read_flow_runs(
                flow_run_filter=FlowRunFilter(parent_flow_run_id=parent)
            )
        return Page(set(run.tags), {child.name: set(child.tags) for child in children})

    return look


def test_study_of_one_model_has_one_page(page):
    """Its run says which study and model it is; its tasks are on it."""
    found = page("tiny")
    assert found.tags == {"study:small", "model:tiny"}
    assert found.children == {}


def test_study_of_two_models_has_a_page_for_each(page):
    """Sub-flows are named after model and layer and tagged with their own model alone."""
    found = page("one", "two")
    assert found.tags == {"study:small", "model:one", "model:two"}
    assert found.children == {
        "one layer 0": {"study:small", "model:one"},
        "two layer 1": {"study:small", "model:two"},
    }
