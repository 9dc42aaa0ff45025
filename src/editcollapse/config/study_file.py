"""Study files: TOML to a StudySpec, with clear words for every mistake; paths in and out of it."""

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from editcollapse.catalog.editors import EDITORS
from editcollapse.catalog.methods import METHODS
from editcollapse.config.base import Spec
from editcollapse.config.spec import StudySpec
from editcollapse.errors import StudyError, nearest_first

_SHOWN_MISTAKES = 5
_HUB_PARTS = 2
_METHODS_AT = {"methods", "switch_to"}
_EDITORS_AT = {"methods", "editors"}
_FILE_SUFFIXES = (".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".gguf")
_SECTIONS_WITH_PATHS = ("dataset", "templates", "covariance", "evaluation")
_PATH_OR_HUB_ID = "source"
_PATHS = ("path", _PATH_OR_HUB_ID, "statistics", "texts")


def read_study(path: Path) -> StudySpec:
    """The study that a TOML file declares, with its paths made absolute.

    Relative paths are looked up beside the study file; what does not exist there and has the form
    of a hub id stays as it is.

    Raises:
        StudyError: no such file, not TOML, or a field that is unknown, missing or out of range.
    """
    if not path.is_file():
        raise StudyError(f"no study file {path}. Give a .toml file, such as studies/demo.toml.")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not only TOML's: numbers, nesting, encoding
        raise StudyError(f"{path} is not TOML: {error}.") from error
    try:
        study = StudySpec.model_validate(data)
    except ValidationError as error:
        raise StudyError(_refusal(path, list(_clauses(error)))) from error
    return with_absolute_paths(study, path.resolve().parent)


def with_absolute_paths(study: StudySpec, folder: Path) -> StudySpec:
    """The study with every relative path made absolute against ``folder``."""

    def absolute(text: str, field: str) -> str:
        found = (folder / Path(text).expanduser()).resolve()
        hub_like = text.count("/") < _HUB_PARTS and not text.startswith((".", "/", "~"))
        hub_like = hub_like and found.suffix.lower() not in _FILE_SUFFIXES
        may_be_hub = field == _PATH_OR_HUB_ID
        return text if may_be_hub and hub_like and not found.exists() else str(found)

    return _renamed(study, absolute)


def without_paths(study: StudySpec) -> StudySpec:
    """The study with each path replaced by the file's own name: nothing of the machine."""
    return _renamed(study, lambda text, _: Path(text).name if Path(text).is_absolute() else text)


def with_paths_below(study: StudySpec, folder: Path) -> StudySpec:
    """The study with each path below ``folder`` made relative to it; others stay absolute.

    Args:
        study: with absolute paths.
        folder: an absolute path.
    """

    def shortened(text: str, _: str) -> str:
        path = Path(text)
        return str(path.relative_to(folder)) if path.is_relative_to(folder) else text

    return _renamed(study, shortened)


def _renamed(study: StudySpec, rename: Callable[[str, str], str]) -> StudySpec:
    """The study with another name for each path, given the name and its field."""

    def renamed(spec: Spec) -> Spec:
        found = {name: getattr(spec, name, None) for name in _PATHS}
        update = {name: rename(text, name) for name, text in found.items() if text is not None}
        return spec.model_copy(update=update)

    sections: dict[str, Any] = {
        name: renamed(getattr(study, name)) for name in _SECTIONS_WITH_PATHS
    }
    sections["models"] = tuple(renamed(model) for model in study.models)
    return study.model_copy(update=sections)


def _refusal(path: Path, clauses: list[str]) -> str:
    """One line for each mistake; of many the first few."""
    if len(clauses) == 1:
        return f"{path}: {clauses[0]}."
    more = len(clauses) - _SHOWN_MISTAKES
    lines = [f"{path} has {len(clauses)} mistakes:", *clauses[:_SHOWN_MISTAKES]]
    return "\n  ".join([*lines, *([f"and {more} more"] if more > 0 else [])]) + "."


def _clauses(error: ValidationError) -> Iterator[str]:
    """One clause for each finding of pydantic, with the nearest allowed name for a typo."""
    for finding in error.errors():
        where = ".".join(str(part) for part in finding["loc"]) or "the study"
        if finding["type"] == "extra_forbidden":
            allowed = _spec_at(finding["loc"][:-1]).model_fields
            asked = str(finding["loc"][-1])
            yield f"unknown field `{where}`; allowed: {nearest_first(asked, allowed)}"
        elif finding["type"] == "literal_error" and _EDITORS_AT & set(finding["loc"]):
            asked = str(finding["input"])
            yield f"no method {asked!r}; known: {nearest_first(asked, (*METHODS, *EDITORS))}"
        elif finding["type"] == "literal_error" and _METHODS_AT & set(finding["loc"]):
            asked = str(finding["input"])
            yield f"no method {asked!r}; known: {nearest_first(asked, METHODS)}"
        else:
            message = finding["msg"].removeprefix("Value error, ")
            said = finding["type"] in {"missing", "value_error"}
            yield f"`{where}`: {message}" + ("" if said else f", got {finding['input']!r}")


def _spec_at(location: tuple[int | str, ...]) -> type[Spec]:
    """The spec of the table at a location of a study file."""
    spec: type[Spec] = StudySpec
    for part in location:
        field = spec.model_fields.get(str(part))
        spec = spec if field is None else _spec_in(field.annotation) or spec
    return spec


def _spec_in(annotation: Any) -> type[Spec] | None:
    """The spec that an annotation such as ``GuardSpec | None`` names."""
    inner = get_args(annotation)
    if not inner:
        is_spec = isinstance(annotation, type) and issubclass(annotation, Spec)
        return annotation if is_spec else None
    return next((spec for spec in map(_spec_in, inner) if spec is not None), None)
