"""Study files: TOML to a StudySpec, with clear words for every mistake; paths in and out of it."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from editcollapse.catalog.methods import METHODS
from editcollapse.config.spec import (
    CovarianceSpec,
    DatasetSpec,
    EvaluationSpec,
    GuardSpec,
    ModelSpec,
    RunnerSpec,
    StudySpec,
    TemplateSpec,
    ValueSpec,
)
from editcollapse.errors import StudyError, nearest_first

_HUB_PARTS = 2
_METHODS_AT = {"methods", "switch_to"}
_FILE_SUFFIXES = (".txt", ".json", ".jsonl", ".ndjson", ".parquet")


def read_study(path: Path) -> StudySpec:
    """Return the study that a TOML file declares, with its paths made absolute.

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
        raise StudyError(f"{path}: {'; '.join(_sentences(error))}.") from error
    return with_absolute_paths(study, path.resolve().parent)


def with_absolute_paths(study: StudySpec, folder: Path) -> StudySpec:
    """Return the study with every relative path made absolute against ``folder``."""

    def absolute(text: str | None, *, may_be_hub: bool = False) -> str | None:
        if text is None:
            return None
        found = (folder / Path(text).expanduser()).resolve()
        hub_like = text.count("/") < _HUB_PARTS and not text.startswith((".", "/", "~"))
        hub_like = hub_like and found.suffix.lower() not in _FILE_SUFFIXES
        return text if may_be_hub and hub_like and not found.exists() else str(found)

    def with_paths(spec: Any, *fields: str, may_be_hub: bool = False) -> Any:
        update = {name: absolute(getattr(spec, name), may_be_hub=may_be_hub) for name in fields}
        return spec.model_copy(update=update)

    models = tuple(
        with_paths(with_paths(model, "source", may_be_hub=True), "statistics")
        for model in study.models
    )
    return study.model_copy(
        update={
            "models": models,
            "dataset": with_paths(study.dataset, "path"),
            "templates": with_paths(study.templates, "path"),
            "covariance": with_paths(study.covariance, "source", may_be_hub=True),
            "evaluation": with_paths(study.evaluation, "texts"),
        }
    )


def without_paths(study: StudySpec) -> StudySpec:
    """Return the study with each path replaced by the file's own name: nothing of the machine."""
    return _renamed(study, lambda path: path.name)


def with_paths_below(study: StudySpec, folder: Path) -> StudySpec:
    """Return the study with each path below ``folder`` made relative to it; others stay absolute.

    Args:
        study: with absolute paths.
        folder: an absolute path.
    """

    def shortened(path: Path) -> str:
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path)

    return _renamed(study, shortened)


def _renamed(study: StudySpec, rename: Callable[[Path], str]) -> StudySpec:
    """Return the study with another name for each absolute path."""

    def name(text: str | None) -> str | None:
        return text if text is None or not Path(text).is_absolute() else rename(Path(text))

    models = tuple(
        model.model_copy(
            update={"source": name(model.source), "statistics": name(model.statistics)}
        )
        for model in study.models
    )
    return study.model_copy(
        update={
            "models": models,
            "dataset": study.dataset.model_copy(update={"path": name(study.dataset.path)}),
            "templates": study.templates.model_copy(update={"path": name(study.templates.path)}),
            "covariance": study.covariance.model_copy(
                update={"source": name(study.covariance.source)}
            ),
            "evaluation": study.evaluation.model_copy(
                update={"texts": name(study.evaluation.texts)}
            ),
        }
    )


def _sentences(error: ValidationError) -> list[str]:
    """Return one clause for each finding of pydantic, with the nearest allowed name for a typo."""
    clauses = []
    for finding in error.errors():
        where = ".".join(str(part) for part in finding["loc"]) or "the study"
        if finding["type"] == "extra_forbidden":
            allowed = _fields_at(finding["loc"][:-1])
            asked = str(finding["loc"][-1])
            clauses.append(f"unknown field `{where}`; allowed: {nearest_first(asked, allowed)}")
        elif finding["type"] == "literal_error" and _METHODS_AT & set(finding["loc"]):
            asked = str(finding["input"])
            clauses.append(f"no method {asked!r}; known: {nearest_first(asked, METHODS)}")
        else:
            message = finding["msg"].removeprefix("Value error, ")
            shown = (
                ""
                if finding["type"] in {"missing", "value_error"}
                else f", got {finding['input']!r}"
            )
            clauses.append(f"`{where}`: {message}{shown}")
    return clauses


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Return the field names that a study file may have at a location."""
    spec: type[BaseModel] = StudySpec
    tables: dict[str, type[BaseModel]] = {
        "models": ModelSpec,
        "dataset": DatasetSpec,
        "templates": TemplateSpec,
        "covariance": CovarianceSpec,
        "value": ValueSpec,
        "evaluation": EvaluationSpec,
        "guard": GuardSpec,
        "runner": RunnerSpec,
    }
    for part in location:
        spec = tables.get(str(part), spec)
    return list(spec.model_fields)
