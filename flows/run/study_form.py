"""A study as a form shows it: what people vary first, and everything else in groups `advanced`.

A flow's parameter of type ``StudyForm`` is a ``StudySpec``. It is taken as study files have it,
flat, and as the form sends it, in groups; the schema that a server shows and checks has groups.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from editcollapse.config.spec import StudySpec

_ADVANCED = "advanced"
_MODELS = "models"
FIRST = ("name", _MODELS, "methods", "dataset")
"""Fields of a study that stand first, in this order."""
FIRST_OF_MODEL = ("name", "source", "layer")
"""Fields of each of its models that do."""


class _InGroups:
    """Annotation of a study that a form may send."""

    def __get_pydantic_core_schema__(
        self, source: type[StudySpec], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(flat, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        reference = handler(schema)
        study = handler.resolve_ref_schema(reference)
        model = handler.resolve_ref_schema(study["properties"][_MODELS]["items"])
        _group_schema(model, FIRST_OF_MODEL, "Settings of the model that are seldom changed.")
        _group_schema(study, FIRST, "Everything else that a study file can say.")
        return reference


StudyForm = Annotated[StudySpec, _InGroups()]
"""A study that a flow takes, from a form or from a study file."""


def in_groups(study: StudySpec) -> dict[str, Any]:
    """Return a study as the form sends it, as JSON.

    What is None is left out, and of the models also what has its default: so the form shows their
    groups closed.
    """
    found = _grouped(study.model_dump(mode="json", exclude_none=True), FIRST)
    models = (model.model_dump(mode="json", exclude_defaults=True) for model in study.models)
    found[_MODELS] = [_grouped(model, FIRST_OF_MODEL) for model in models]
    return found


def flat(study: Any) -> Any:
    """Return a study that a form has sent as study files have it; anything else as it is.

    Raises:
        ValueError: a field stands twice.
    """
    found = _flattened(study)
    models = found.get(_MODELS) if isinstance(found, Mapping) else None
    if not isinstance(models, list | tuple):
        return found
    return {**found, _MODELS: [_flattened(model) for model in models]}


def _grouped(spec: dict[str, Any], first: tuple[str, ...]) -> dict[str, Any]:
    shown = {name: spec[name] for name in first if name in spec}
    rest = {name: spec[name] for name in spec if name not in first}
    return shown | ({_ADVANCED: rest} if rest else {})


def _flattened(spec: Any) -> Any:
    if not isinstance(spec, Mapping) or not isinstance(spec.get(_ADVANCED), Mapping | None):
        return spec
    shown = {name: spec[name] for name in spec if name != _ADVANCED}
    rest = spec.get(_ADVANCED) or {}
    twice = sorted(shown.keys() & rest.keys())
    if twice:
        raise ValueError(f"{', '.join(twice)}: given both above and under `{_ADVANCED}`")
    return shown | dict(rest)


def _group_schema(schema: JsonSchemaValue, first: tuple[str, ...], about: str) -> None:
    """Move all but some properties of an object's schema into a group of their own."""
    fields, required = schema["properties"], schema.get("required", [])
    rest = [name for name in fields if name not in first]
    group: dict[str, Any] = {
        "type": "object",
        "title": "Advanced",
        "description": about,
        "additionalProperties": False,
        "properties": _in_order(fields, rest),
        "required": [name for name in required if name in rest],
    }
    if not group["required"]:  # a group that may be left out is shown closed
        group = {
            "anyOf": [group, {"type": "null"}],
            "default": None,
            "title": "Advanced",
            "description": about,
        }
    schema["properties"] = _in_order({**fields, _ADVANCED: group}, [*first, _ADVANCED])
    schema["required"] = [name for name in first if name in required]
    if group.get("required"):
        schema["required"].append(_ADVANCED)


def _in_order(fields: dict[str, Any], names: "list[str]") -> dict[str, Any]:
    """Return fields in an order, which they also state: a database may keep another."""
    return {name: {**fields[name], "position": place} for place, name in enumerate(names)}
