"""The demo study's ids are pinned: moving and renaming code changes none of them."""

from pathlib import Path

import pytest

from editcollapse.config.study_file import read_study
from editcollapse.study.plan import plan_study
from editcollapse.units.prepare import prepare_templates

DEMO = Path(__file__).resolve().parents[3] / "studies" / "demo.toml"
STUDY_ID = "41a293db3480f02b536c56fe4f54a707"
FIRST_EDITS = {
    "rome": "8a1c6d681a44b9da588e5cf49a7ffeb8",
    "c_rome": "5c01ad2949756869b7064bc40779e87f",
    "p_rome": "6cbb62b50df7574f5f3746eda10d2fd1",
}
"""Of the first request: gpt2-induced's by ROME and C-ROME, gpt2-control's by p-ROME."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Return the plan of the demo study."""
    return plan_study(read_study(DEMO), tmp_path_factory.mktemp("results"))


def test_study_id_is_pinned(plan):
    """The study has the id that published results name."""
    assert plan.study_id == STUDY_ID


@pytest.mark.parametrize(
    ("name", "methods"), [("gpt2-induced", ("rome", "c_rome")), ("gpt2-control", ("p_rome",))]
)
def test_edit_ids_are_pinned(plan, name, methods):
    """Edits have the ids that they had before; the context templates are drawn as they were."""
    (model,) = [each for each in plan.models if each.setup.spec.name == name]
    templates = prepare_templates(model.templates)
    batch = next(iter(plan.edit_jobs(model, templates, templates)))
    request = batch.requests[0].request_id
    assert {method: batch.edit_id(method, request) for method in methods} == {
        method: FIRST_EDITS[method] for method in methods
    }
