"""What the Prefect form shows: a sentence for every field, and fields that a form can have."""

import pytest
from flows.report_flow import report
from prefect.utilities.callables import parameter_schema

from demo.train.flow import pretrain_demo_models
from flows.precompute import precompute_covariance
from flows.reevaluation import reevaluate
from flows.study import collapse_study

FLOWS = (collapse_study, precompute_covariance, pretrain_demo_models, reevaluate, report)


def fields(flow):
    """Return every field of a flow's form, nested ones included, by its place."""
    schema = parameter_schema(flow).model_dump(mode="json")
    found = dict(schema["properties"])
    for owner, definition in schema["definitions"].items():
        found |= {
            f"{owner}.{name}": field for name, field in definition.get("properties", {}).items()
        }
    return found


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_every_field_has_a_description(flow):
    """A field that says nothing is a field that nobody fills in rightly."""
    silent = [place for place, field in fields(flow).items() if not field.get("description")]
    assert not silent


def test_nested_fields_are_looked_at():
    """The walk above reaches the fields of models, of their values and of all tables."""
    places = fields(collapse_study)
    for place in ("study", "StudySpec.dataset", "ModelSpec.value", "ValueSpec.steps"):
        assert place in places


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_no_field_becomes_raw_json(flow):
    """The form shows a choice between several objects as a box for JSON: there is none."""
    for place, field in fields(flow).items():
        assert "oneOf" not in field, place
        assert "discriminator" not in field, place
        choices = field.get("anyOf", [])
        assert sum("$ref" in choice for choice in choices) <= 1, place
        known = {"type", "$ref", "allOf", "anyOf", "enum", "const"}
        assert known & field.keys(), f"{place} has no type: {field}"


def test_report_runs_without_any_answer():
    """Its form can be sent as it is."""
    schema = parameter_schema(report)
    assert not schema.required
