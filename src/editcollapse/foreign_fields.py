"""Fields of others' results: each is returned clean, or its fault is said in one sentence."""

import dataclasses
import math
from typing import Any

from editcollapse.data.records import MAX_CHARACTERS, Record, RecordError, describe, required, text

_NOT_GIVEN = "<|endoftext|>"
"""What both programs write where the old object is not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class ForeignRequest:
    """What was edited, as another program says it."""

    case_id: str | None
    subject: str | None
    prompt: str
    """The rewrite prompt with its subject."""
    target_new: str
    target_true: str | None


def object_of(value: Any, path: str) -> Record:
    """Return a JSON object. Raises RecordError where it is none."""
    if not isinstance(value, dict):
        raise RecordError(f"{path} is {describe(value)} where an object is expected.")
    return value


def inner(record: Record, name: str) -> Record:
    """Return an object inside a record. Raises RecordError where it is missing or none."""
    return object_of(required(record, name), name)


def sentence(value: Any, path: str) -> str:
    """Return a text without surrounding blanks. Raises RecordError where it is none or too long."""
    found = text(value, path).strip()
    if len(found) > MAX_CHARACTERS:
        raise RecordError(f"{path} has {len(found)} characters, more than {MAX_CHARACTERS}.")
    return found


def old_object(value: Any, path: str) -> str | None:
    """Return the object believed before; None where the program says that it does not know."""
    if value is None or value == _NOT_GIVEN:
        return None
    return sentence(value, path)


def number(value: Any, path: str, *, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a number; nan passes, as the measurement of a broken model.

    Raises:
        RecordError: it is none, or lies outside its bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordError(f"{path} is {describe(value)} where a number is expected.")
    try:
        found = float(value)
    except OverflowError:
        raise RecordError(f"{path} is {describe(value)}, too large for a number.") from None
    if found < low or found > high:
        raise RecordError(f"{path} is {found:g}; it lies between {low:g} and {high:g}.")
    return found


def optional_number(record: Record, name: str, path: str, *, low: float = 0.0) -> float | None:
    """Return a number, None where it is missing or null. Raises RecordError as ``number``."""
    value = record.get(name)
    return None if value is None else number(value, path + name, low=low)


def mean_share(value: Any, path: str) -> float | None:
    """Return a share, or the mean of a list of shares or truth values; None where there is none.

    Raises:
        RecordError: something else stands there.
    """
    if value is None or value == []:
        return None
    items = value if isinstance(value, list) else [value]
    shares = [
        float(item) if isinstance(item, bool) else number(item, path, low=0.0, high=1.0)
        for item in items
    ]
    return sum(shares) / len(shares)


def phases_of(record: Record) -> list[tuple[str, Record]]:
    """Return what a record says of the model after the edit, and before it where it does.

    Raises:
        RecordError: it says nothing of the model after the edit.
    """
    return [
        (phase, inner(record, phase))
        for phase in ("post", "pre")
        if phase == "post" or record.get(phase) is not None
    ]
