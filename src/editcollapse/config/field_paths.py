"""Where a field stands in a JSON record: ``facts[0].new``, ``locality[*].loc``.

Names are parted by dots; ``[2]`` is an item of a list, ``[*]`` all items of a list or all values of
an object, ``["a.b"]`` a name with signs of its own.
"""

import dataclasses
import functools
import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

_STEP = re.compile(
    r"""(?P<name>[^.\[\]"]+) | \[(?P<index>\d+)\] | \[(?P<all>\*)\] | \["(?P<quoted>[^"]+)"\]""",
    re.VERBOSE,
)
_SIMPLE = re.compile(r'[^.\[\]"]+')


class _All:
    """The step to all items of a list, or to all values of an object."""


ALL = _All()
Step = str | int | _All


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What stands at a path of one record."""

    value: Any
    """The value; of a path with ``[*]`` the list of all values, None for each that is not there."""
    is_there: bool
    """Whether anything stands there."""


@functools.lru_cache(maxsize=256)
def steps_of(path: str) -> tuple[Step, ...]:
    """Return the steps of a path. Raises ValueError where it is none, with the sign it ends at."""
    found: list[Step] = []
    at = 0
    while at < len(path):
        if found and path[at] == ".":
            at += 1
            step = _STEP.match(path, at)
            step = step if step is not None and step["name"] else None
        else:
            step = _STEP.match(path, at)
            step = step if step is not None and not (found and step["name"]) else None
        if step is None:
            raise ValueError(
                f"{path!r} is no path: it ends at {path[at:]!r}. Write names parted by dots, [0] "
                'for an item of a list, [*] for all, ["a.b"] for a name with a dot'
            )
        at = step.end()
        if step["index"]:
            found.append(int(step["index"]))
        else:
            found.append(ALL if step["all"] else step["name"] or step["quoted"])
    return tuple(found)


def value_at(record: Any, path: str) -> Found:
    """Return what stands at a path of a JSON record.

    Args:
        record: whatever JSON gives.
        path: as ``steps_of`` takes it.
    """
    steps = steps_of(path)
    values = [record]
    for step in steps:
        values = [each for value in values for each in _step(value, step)]
    present = [value for value in values if value is not _ABSENT]
    if ALL in steps:
        listed = [None if value is _ABSENT else value for value in values]
        return Found(listed, bool(present))
    (value,) = values
    return Found(None if value is _ABSENT else value, bool(present))


_ABSENT = object()
_DEPTH = 8


def _step(value: Any, step: Step) -> list[Any]:
    """Return what one step leads to: one value, or of all items each."""
    if isinstance(step, _All):
        if isinstance(value, dict):
            return list(value.values())
        return value if isinstance(value, list) else []
    if isinstance(step, int):
        return [value[step] if isinstance(value, list) and step < len(value) else _ABSENT]
    return [value[step] if isinstance(value, dict) and step in value else _ABSENT]


def paths_of(record: Any, prefix: str = "", depth: int = _DEPTH) -> dict[str, None]:
    """Return the paths to all texts and numbers of a record, in order, lists as ``[*]``.

    Args:
        record: whatever JSON gives.
        prefix: where it stands.
        depth: levels that are looked into.
    """
    found: dict[str, None] = {}
    if depth == 0:
        return found
    if isinstance(record, dict):
        for name, value in record.items():
            dotted = f"{prefix}.{name}" if prefix else name
            own = dotted if _SIMPLE.fullmatch(name) else f'{prefix}["{name}"]'
            found |= paths_of(value, own, depth - 1)
    elif isinstance(record, list):
        for value in record:
            found |= paths_of(value, f"{prefix}[*]", depth - 1)
    elif prefix and record is not None:
        found[prefix] = None
    return found


def _checked(path: str) -> str:
    steps_of(path)
    return path


FieldPath = Annotated[str, Field(min_length=1), AfterValidator(_checked)]
"""A path, as text."""
