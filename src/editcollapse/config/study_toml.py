"""A study written out as TOML, as it would be read again."""

import json
from collections.abc import Iterator
from typing import Any

from editcollapse.config.spec import StudySpec

_OF_THE_MACHINE = {"runner", "tracking"}
"""Tables that say where a study ran, not what it is."""


def study_toml(study: StudySpec) -> str:
    """Return a study as the text of a study file; what is None is left out.

    Its tables ``runner`` and ``tracking`` are left out as well. Paths are as they are: for a text
    that goes elsewhere give ``without_paths`` of the study.
    """
    content = study.model_dump(mode="json", exclude_none=True, exclude=_OF_THE_MACHINE)
    return "\n".join(_lines(content, "")) + "\n"


def _lines(table: dict[str, Any], name: str) -> Iterator[str]:
    """Yield the lines of a table: values first, for behind a head they would belong to it."""
    inner = {key: value for key, value in table.items() if _is_table(value)}
    for key, value in table.items():
        if key not in inner:
            yield f"{key} = {_value(value)}"
    for key, value in inner.items():
        head = f"{name}{key}"
        for each in value if isinstance(value, list) else [value]:
            yield ""
            yield f"[[{head}]]" if isinstance(value, list) else f"[{head}]"
            yield from _lines(each, f"{head}.")


def _is_table(value: Any) -> bool:
    """Whether a value is a table, or tables of which there is one at least."""
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)
    )


def _value(value: Any) -> str:
    """A value as TOML: JSON's own form, but for one character that TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
