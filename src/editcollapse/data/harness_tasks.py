"""Tasks of lm-evaluation-harness as they are asked for: by name, or as local YAML with local data.

A local task is read whole, with its data, so that whoever runs it needs neither the file nor the
hub. It is data alone: YAML that names Python (``!function``), a class, a metric or a prompt from
elsewhere is refused. lm_eval itself is not loaded here.
"""

import dataclasses
import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from editcollapse.errors import DatasetError, StudyError, first_line

HARNESS = "lm_eval"
"""Distribution of lm-evaluation-harness."""
EXTRA = "downstream"
"""Our extra that installs it."""
YAML_SUFFIXES = (".yaml", ".yml")
_JSON, _LINES = (".json",), (".jsonl", ".ndjson")
_SPLITS = ("test_split", "validation_split", "training_split", "fewshot_split")
_CODE = {
    "class": "a Python class",
    "custom_dataset": "a function that makes its data",
    "process_docs": "a function that changes its data",
    "process_results": "a function that scores",
    "use_prompt": "a prompt of promptsource",
    "unsafe_code": "code of the model's to be run",
}
"""Fields of lm_eval's tasks that run code or fetch it, and what they ask for."""
_DATA_FILES = "data_files"
_MOST_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class HarnessTask:
    """A task that is asked for."""

    name: str
    """What lm_eval calls it."""
    content: str | None = None
    """Of a local task: JSON with ``config``, its YAML without data files, and ``data``, split to
    records. None for a task, group or tag of lm_eval's own."""


def harness_version() -> str:
    """Return the version of lm-evaluation-harness that is installed; it is not loaded.

    Raises:
        StudyError: none is.
    """
    try:
        return importlib.metadata.version(HARNESS)
    except importlib.metadata.PackageNotFoundError as error:
        raise StudyError(
            "downstream tasks are run by lm-evaluation-harness, which is not installed: "
            f"pip install 'editcollapse[{EXTRA}]', here and on every worker."
        ) from error


def read_task(asked: str) -> HarnessTask:
    """Return a task by its name, or by the path of its YAML file, whichever is asked for.

    Args:
        asked: ``hellaswag``; or ``demo/tasks/demo_facts.yaml``, anything that ends as YAML
            files do. Data files are looked for beside the YAML, then from the working directory.

    Raises:
        DatasetError: the YAML or its data cannot be read, or is no plain task.
    """
    path = Path(asked)
    if path.suffix.lower() not in YAML_SUFFIXES:
        if not asked.strip():
            raise DatasetError("a task has no name: give one of lm_eval's, or a YAML file.")
        return HarnessTask(asked)
    config = _config_of(path, ())
    name = config.get("task")
    if not isinstance(name, str) or not name.strip():
        raise _unusable(path, "`task` has to be the task's name. A group is asked for task by task")
    _check_is_data(path, config)
    files = _data_files(path, config)
    del config["dataset_path"], config["dataset_kwargs"]
    data = {
        split: [each for file in those for each in _records(path, file)] for split, those in files
    }
    for field in _SPLITS:
        split = config.get(field)
        if split is not None and split not in data:
            raise _unusable(path, f"{field} is {split!r}, and its data_files have {_listed(data)}")
    if not any(config.get(field) for field in _SPLITS[:2]):
        raise _unusable(path, "neither test_split nor validation_split names what to ask")
    empty = [split for split, records in data.items() if not records]
    if empty:
        raise _unusable(path, f"its data of split {empty[0]!r} has no record")
    try:
        content = json.dumps(
            {"config": config, "data": data}, ensure_ascii=False, sort_keys=True, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise _unusable(path, f"a value of it is no plain data ({first_line(error)})") from error
    return HarnessTask(name, content)


def _config_of(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Return a YAML file's fields over those of the files that it includes.

    Args:
        path: the file.
        above: files that include it.
    """
    config = _yaml(path)
    if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
        raise _unusable(path, "it holds no fields")
    included = config.pop("include", None) or []
    own: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else included:
        base = path.parent / str(name)
        if base.resolve() in [each.resolve() for each in (*above, path)]:
            raise _unusable(path, f"it includes {name}, which includes it")
        own |= _config_of(base, (*above, path))
    return own | config


def _yaml(path: Path) -> Any:
    import yaml

    class PlainLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types here
        """Reads plain data; a tag that asks for Python is refused."""

    def refuse(_loader: Any, tag: str, _node: Any) -> Any:
        raise _unusable(
            path,
            f"it asks for Python (!{tag}), and a local task is data alone. Write doc_to_text, "
            "doc_to_choice and doc_to_target as templates, or ask lm_eval itself",
        )

    PlainLoader.add_multi_constructor("!", refuse)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _unusable(path, "it is larger than 64 MiB")
        return yaml.load(path.read_text(encoding="utf-8-sig"), PlainLoader)  # noqa: S506  safe
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"task {path} cannot be read: {_reason(error)}. Check the path."
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise _unusable(path, f"it is no YAML ({first_line(error)})") from error


def _check_is_data(path: Path, config: dict[str, Any]) -> None:
    """Raise DatasetError for a task that runs code, or that fetches something."""
    for field, what in _CODE.items():
        if config.get(field):
            raise _unusable(path, f"{field} asks for {what}, and a local task is data alone")
    metrics = config.get("metric_list") or []
    if not isinstance(metrics, list) or not all(isinstance(each, dict) for each in metrics):
        raise _unusable(path, "metric_list has to be a list of `metric: NAME`")
    if any(each.get("hf_evaluate") for each in metrics):
        raise _unusable(path, "hf_evaluate fetches a metric's code, and a local task is data alone")
    if config.get("dataset_path") != "json":
        raise _unusable(
            path,
            f"dataset_path is {config.get('dataset_path')!r}, and local data is 'json', with "
            "dataset_kwargs: data_files",
        )


def _data_files(path: Path, config: dict[str, Any]) -> list[tuple[str, list[Path]]]:
    """Return split and files of a task's data."""
    asked = config.get("dataset_kwargs")
    named = asked.get(_DATA_FILES) if isinstance(asked, dict) else None
    if not named or not isinstance(asked, dict) or set(asked) != {_DATA_FILES}:
        raise _unusable(path, "dataset_kwargs has to hold data_files, split to file, and no more")
    splits = named if isinstance(named, dict) else {"train": named}
    found = []
    for split, files in splits.items():
        names = [files] if isinstance(files, str) else files
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _unusable(path, f"data_files of {split!r} has to be a file, or a list of them")
        found.append((str(split), [_found(path, name) for name in names]))
    return found


def _found(path: Path, name: str) -> Path:
    """Return a data file: beside the YAML, else from the working directory."""
    places = [path.parent / name, Path(name)]
    for place in places:
        if place.is_file():
            return place
    raise _unusable(path, f"its data {name} is neither beside it nor in the working directory")


def _records(path: Path, file: Path) -> Iterator[Any]:
    """Yield the records of a data file: a JSON list of objects, or an object a line."""
    suffix = file.suffix.lower()
    if suffix not in (*_JSON, *_LINES):
        raise _unusable(path, f"its data {file.name} has to end with .json or .jsonl")
    try:
        text = file.read_text(encoding="utf-8-sig")
        lines = [line for line in text.split("\n") if line.strip()]
        found = [json.loads(line) for line in lines] if suffix in _LINES else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(path, f"its data {file.name} is no JSON ({_reason(error)})") from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise _unusable(path, f"its data {file.name} has to be a list of objects")
    yield from found


def _listed(data: dict[str, Any]) -> str:
    return ", ".join(data)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


def _unusable(path: Path, what: str) -> DatasetError:
    return DatasetError(f"task {path} cannot be used: {what}.")
