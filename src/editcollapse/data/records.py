"""JSON and JSONL files as records; field types of third-party data, and a sentence for each fault.

One malformed line, or one record that cannot be used, never hides the others.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from editcollapse.errors import DatasetError

LINE_SUFFIXES = (".jsonl", ".ndjson")
TEXT_FIELDS = ("text", "Text")
MAX_CHARACTERS = 100_000
"""Longer than any prompt is, and short enough to be tokenized many times over."""
_ENCODING = "utf-8-sig"  # UTF-8, with or without a byte order mark
_SHOWN_CHARACTERS = 60
_SHOWN_FAULTS = 3
_EXPECTED = {
    "string_type": "a string is expected; write it as a string",
    "tuple_type": "a string or a list of strings is expected",
}


class RecordError(ValueError):
    """A record cannot be used; the message is the reason that its rejection carries."""


@dataclasses.dataclass(frozen=True, slots=True)
class ParsedRecord:
    """One entry of a JSON list, or one line of a JSONL file that is not blank."""

    index: int
    """Zero-based position among the records."""
    line: int | None
    """One-based line number; None in a JSON document."""
    value: Any
    """Whatever the JSON says; None where ``problem`` is given."""
    problem: str | None = None
    """One sentence on why the line is no JSON."""

    @property
    def location(self) -> str:
        """Where a reader finds it: ``line 7`` or ``record 6``."""
        return f"record {self.index}" if self.line is None else f"line {self.line}"

    def json(self) -> Any:
        """The record's JSON value. Raises RecordError where the line is no JSON."""
        if self.problem is not None:
            raise RecordError(self.problem)
        return self.value


def _not_blank(value: str) -> str:
    if value.isspace():
        raise RecordError("is empty; give it a text.")
    return value


def _name(value: str) -> str:
    return _not_blank(value).strip()


Text = Annotated[str, Field(strict=True, min_length=1), AfterValidator(_not_blank)]
"""A string that is not blank, its blanks untouched. No half of a surrogate pair is in it, which no
tokenizer and no database takes."""
_SHORT = Field(strict=True, min_length=1, max_length=MAX_CHARACTERS)
Sentence = Annotated[str, _SHORT, AfterValidator(_not_blank)]
"""Such a string of at most ``MAX_CHARACTERS``."""
Name = Annotated[str, _SHORT, AfterValidator(_name)]
"""A subject or an object, without surrounding blanks."""
_TEXT = TypeAdapter[str](Text)


def text(value: Any, path: str) -> str:
    """One text of any length, its blanks untouched. Raises RecordError where it is no ``Text``."""
    try:
        return _TEXT.validate_python(value)
    except ValidationError as error:
        raise RecordError(faults(error, path)) from error


def text_of_item(value: Any, field: str | None) -> str | None:
    """The text of one entry of a text set or corpus; None where it is null or blank.

    Args:
        value: a string, or an object with the text under ``field``.
        field: the text's field; None for ``text`` or ``Text``, whichever is there.

    Raises:
        RecordError: it is neither, has no such field, or the field is no string.
    """
    path = "the entry"
    if isinstance(value, dict):
        path = text_field_of(value, field)
        if not path:
            fields = shorten(", ".join(repr(name) for name in value) or "none")
            raise RecordError(
                f"the entry has no field {asked_field(field)} (it has {fields}); name the text's "
                "field."
            )
        value = value[path]
    blank = value is None or (isinstance(value, str) and not value.strip())
    return None if blank else text(value, path)


def text_field_of(fields: Mapping[str, Any], field: str | None) -> str:
    """The name of the field or column that holds the text; empty where there is none."""
    return next((name for name in ([field] if field else TEXT_FIELDS) if name in fields), "")


def asked_field(field: str | None) -> str:
    """A text field as messages name it."""
    return repr(field) if field else " or ".join(repr(name) for name in TEXT_FIELDS)


def faults(
    error: ValidationError,
    path: str = "",
    prefix: str = "",
    called: Mapping[str, str] | None = None,
) -> str:
    """What pydantic finds wrong with a record, a sentence each: field, what was found, what to do.

    Args:
        error: of a record's model.
        path: what the value is called, where it is no object.
        prefix: what goes before the name of a field.
        called: what fields are called, where that is not their name.
    """
    reported: dict[str, str] = {}
    for found in error.errors(include_url=False):
        location, said = _fault(found)
        if called and location:
            location = (called.get(str(location[0]), location[0]), *location[1:])
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
        reported.setdefault(path or shorten(prefix + "".join(steps).removeprefix(".")), said)
    shown = [f"{where} {said}" for where, said in list(reported.items())[:_SHOWN_FAULTS]]
    more = len(reported) - len(shown)
    return " ".join([*shown, *([f"(and {more} more)."] if more else [])])


def _fault(found: ErrorDetails) -> tuple[tuple[int | str, ...], str]:
    """Where a fault is, and the rest of its sentence."""
    location, value = found["loc"], found["input"]
    match found["type"]:
        case "missing":
            for depth, step in enumerate(location):
                if not isinstance(value, dict):
                    where = f"where an object with {step!r} is expected."
                    return location[:depth], f"is {describe(value)} {where}"
                if step not in value:
                    return location[: depth + 1], "is missing; add it to the record."
                value = value[step]
            raise AssertionError(found)
        case "string_unicode":
            said = f"holds a lone surrogate ({shorten(ascii(value))}); repair its encoding."
        case "string_too_short":
            said = "is empty; give it a text."
        case "string_too_long":
            said = f"has {len(value)} characters, and a sentence has at most {MAX_CHARACTERS}; "
            said += "shorten it."
        case "value_error":
            said = str(found["ctx"]["error"])
        case _ if value is None:
            said = "is null; give it a value."
        case kind:
            said = f"is {describe(value)} where {_EXPECTED[kind]}."
    return location, said


def describe(value: Any) -> str:
    """What a JSON value is, in words, with as much of it as fits a sentence."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {shorten(str(value))}"
    if isinstance(value, str):
        return f"the string {shorten(repr(value))}"
    kind = "a list" if isinstance(value, list) else "an object"
    return f"{kind} of {len(value)}"


def shorten(shown: str) -> str:
    """A text cut to what a message can carry, with lone surrogates escaped."""
    cut = shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}…"
    return cut.encode("utf-8", "backslashreplace").decode()


def require_file(path: Path, wanted: str) -> None:
    """Raise DatasetError where ``path`` is no file; ``wanted`` says what was asked for."""
    if path.is_dir():
        raise _unusable(path, wanted, "is a folder", "Name one file in it")
    if not path.is_file():
        found = f"Correct the path; it was looked up as {path.absolute()}"
        raise _unusable(path, wanted, "does not exist", found)


def iter_lines(path: Path, wanted: str) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 file without their line ends; ``\r\n`` counts as ``\n``.

    Only line feeds and carriage returns end a line: U+2028 and the like are text.

    Raises:
        DatasetError: the file is missing, cannot be read, or is not UTF-8.
    """
    require_file(path, wanted)
    try:
        with path.open(encoding=_ENCODING) as stream:
            for line in stream:
                yield line.removesuffix("\n")
    except UnicodeDecodeError as error:
        found = f"is not UTF-8 (byte 0x{error.object[error.start]:02x}: {error.reason})"
        raise _unusable(path, wanted, found, "Save the file as UTF-8") from error
    except OSError as error:
        found = f"cannot be read ({error.strerror or error})"
        raise _unusable(path, wanted, found, "Check the file and its permissions") from error


def iter_json_lines(path: Path, wanted: str) -> Iterator[ParsedRecord]:
    """Yield one record for each line that is not blank; a malformed line carries its problem.

    Raises:
        DatasetError: the file is missing, cannot be read, or is not UTF-8.
    """
    return _parse_lines(iter_lines(path, wanted))


def read_json_records(path: Path, wanted: str) -> list[ParsedRecord]:
    """The records of a JSON list or a JSONL file, in file order.

    A ``.jsonl`` or ``.ndjson`` file is read line by line unless it starts with ``[``. A file with
    another suffix is one JSON document; where it is none but its first line alone is, it is taken
    as JSONL, since many published ``.json`` files are.

    Args:
        path: the file.
        wanted: what is asked for, for the messages: ``edit requests``.

    Raises:
        DatasetError: the file is missing, empty, not UTF-8, malformed as a document (with line and
            column), or holds an object or a single value where a list of records is expected.
    """
    lines = list(iter_lines(path, wanted))
    content = "\n".join(lines)
    if not content.strip():
        raise _unusable(path, wanted, "is empty", "Give a file with records")
    is_list = content.lstrip().startswith("[")
    if path.suffix.lower() in LINE_SUFFIXES and not is_list:
        return list(_parse_lines(lines))
    value, problem = _parse(content)
    if problem is None and isinstance(value, list):
        return [ParsedRecord(index, None, item) for index, item in enumerate(value)]
    if problem is None:
        found = f"holds {_outline(value)} where a list of records is expected"
        instead = "Save the list alone, or one record a line with the suffix .jsonl"
        raise _unusable(path, wanted, found, instead)
    records = [] if is_list else list(_parse_lines(lines))
    if len(records) > 1 and records[0].problem is None:
        return records
    raise _unusable(path, wanted, f"is not valid JSON: {problem}", "Correct it there")


def _parse(content: str) -> tuple[Any, str | None]:
    """A text's JSON value and None, or None and what is wrong with the text."""
    try:
        return json.loads(content), None
    except json.JSONDecodeError as error:
        return None, f"{error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        return None, "it is nested too deeply"
    except ValueError as error:  # a number with thousands of digits
        return None, str(error)


def _parse_lines(lines: Iterator[str] | list[str]) -> Iterator[ParsedRecord]:
    filled = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    for index, (number, line) in enumerate(filled):
        value, problem = _parse(line)
        if problem is not None:
            found = problem.replace("at line 1, column", "at column")
            problem = f"line {number} is not valid JSON ({found}); correct or remove that line."
        yield ParsedRecord(index, number, value, problem)


def _outline(value: Any) -> str:
    if not isinstance(value, dict):
        return f"a single {type(value).__name__}"
    names = ", ".join(repr(name) for name in list(value)[:6])
    return f"one object (with {names})" if names else "one empty object"


def _unusable(path: Path, wanted: str, found: str, instead: str) -> DatasetError:
    return DatasetError(f"{wanted} was asked from {path}, which {found}. {instead}.")
