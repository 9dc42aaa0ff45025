"""What the Prefect form shows: a sentence for every field, and fields that a form can have."""

import json

import pytest
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema

from demo.train.flow import pretrain_demo_models
from editcollapse.config.spec import ModelSpec, StudySpec
from editcollapse.config.study_file import read_study
from flows.precompute import precompute_covariance
from flows.reevaluation import reevaluate
from flows.run.study_form import in_groups
from flows.study import collapse_study

FLOWS = (collapse_study, precompute_covariance, pretrain_demo_models, reevaluate)


def fields(flow):
    """Return every field of a flow's form, nested ones included, by its place."""
    schema = parameter_schema(flow).model_dump(mode="json")
    found = dict(schema["properties"])
    for owner, definition in schema["definitions"].items():
        own = definition.get("properties", {})
        own = own | group_in(own)
        found |= {f"{owner}.{name}": field for name, field in own.items()}
    return found


def group_in(fields):
    """Return the fields of the group ``advanced`` of an object, which may have to be opened."""
    group = fields.get("advanced", {})
    return group.get("anyOf", [group])[0].get("properties", {})


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


def test_form_shows_first_what_people_vary():
    """Name, models with their layers, methods and requests stand above; all else is in groups."""
    schema = parameter_schema(collapse_study).model_dump(mode="json")
    shown = {name: in_order(schema["definitions"][name]) for name in ("StudySpec", "ModelSpec")}
    assert shown == {
        "StudySpec": ["name", "models", "methods", "dataset", "advanced"],
        "ModelSpec": ["name", "source", "layer", "advanced"],
    }
    for spec in (StudySpec, ModelSpec):
        own = schema["definitions"][spec.__name__]["properties"]
        grouped = group_in(own)
        assert (set(own) - {"advanced"}) | set(grouped) == set(spec.model_fields)
        assert not set(own) & set(grouped)
    assert in_order(schema["definitions"]["DatasetSpec"])[:2] == ["path", "limit"]
    closed = schema["definitions"]["ModelSpec"]["properties"]["advanced"]
    assert closed["default"] is None


def in_order(definition):
    """Return the fields of an object as the form shows them."""
    fields = definition["properties"]
    return sorted(fields, key=lambda name: fields[name].get("position", 0))


def test_study_of_a_form_is_that_of_a_file(study):
    """In groups, flat and as it stands in a deployment's parameters it is the same study."""
    spec = read_study(study)
    form = in_groups(spec)
    assert list(form) == ["name", "models", "methods", "dataset", "advanced"]
    assert form["models"][0].keys() <= {"name", "source", "layer", "advanced"}
    closed = form | {"models": [{"advanced": None} | model for model in form["models"]]}
    for sent in (form, closed, json.loads(json.dumps(form)), spec.model_dump(mode="json"), spec):
        assert collapse_study.validate_parameters({"study": sent})["study"] == spec


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 3}, "seed: given both above and under `advanced`"),
        ({"advanced": 3}, "advanced"),
        ({"models": "gpt2"}, "models"),
        ({"models": [3]}, "models"),
    ],
)
def test_form_that_makes_no_study_is_refused(study, change, said):
    """What stands twice, or is no group, is named."""
    form = in_groups(read_study(study)) | change
    with pytest.raises(ParameterTypeError, match=said):
        collapse_study.validate_parameters({"study": form})
