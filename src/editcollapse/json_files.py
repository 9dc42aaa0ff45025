"""Records of a JSON or JSONL file; one malformed line never hides the others."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from editcollapse.errors import DatasetError

LINE_SUFFIXES = (".jsonl", ".ndjson")
_ENCODING = "utf-8-sig"  # UTF-8, with or without a byte order mark


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
    def place(self) -> str:
        """Where a reader finds it: ``line 7`` or ``record 6``."""
        return f"record {self.index}" if self.line is None else f"line {self.line}"


def require_file(path: Path, wanted: str) -> None:
    """Raise DatasetError where ``path`` is no file; ``wanted`` says what was asked for."""
    if path.is_dir():
        raise DatasetError(
            f"{wanted} was asked from {path}, which is a folder. Name one file in it."
        )
    if not path.is_file():
        raise DatasetError(
            f"{wanted} was asked from {path}, which does not exist. "
            f"Correct the path; it was looked up as {path.absolute()}."
        )


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
        raise _not_utf8(path, wanted, error) from error
    except OSError as error:
        raise _unreadable(path, wanted, error) from error


def iter_json_lines(path: Path, wanted: str) -> Iterator[ParsedRecord]:
    """Yield one record for each line that is not blank; a malformed line carries its problem.

    Raises:
        DatasetError: the file is missing, cannot be read, or is not UTF-8.
    """
    yield from _parse_lines(iter_lines(path, wanted))


def read_json_records(path: Path, wanted: str) -> list[ParsedRecord]:
    """Return the records of a JSON list or a JSONL file, in file order.

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
    require_file(path, wanted)
    try:
        text = path.read_bytes().decode(_ENCODING)
    except UnicodeDecodeError as error:
        raise _not_utf8(path, wanted, error) from error
    except OSError as error:
        raise _unreadable(path, wanted, error) from error
    if not text.strip():
        raise DatasetError(
            f"{wanted} was asked from {path}, which is empty. Give a file with records."
        )
    is_list = text.lstrip().startswith("[")
    if path.suffix.lower() in LINE_SUFFIXES and not is_list:
        return list(_parse_lines(_lines_of(text)))
    value, problem = parse_json(text)
    if problem is None and isinstance(value, list):
        return [ParsedRecord(index, None, item) for index, item in enumerate(value)]
    if problem is None:
        raise DatasetError(
            f"{wanted} was asked from {path}, which holds {_outline(value)} where a list of "
            "records is expected. Save the list alone, or one record a line with the suffix .jsonl."
        )
    if not is_list:
        records = list(_parse_lines(_lines_of(text)))
        if len(records) > 1 and records[0].problem is None:
            return records
    raise DatasetError(
        f"{wanted} was asked from {path}, which is not valid JSON: {problem}. Correct it there."
    )


def parse_json(text: str) -> tuple[Any, str | None]:
    """Return the value and None, or None and what is wrong with the text."""
    try:
        return json.loads(text), None
    except json.JSONDecodeError as error:
        return None, f"{error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        return None, "it is nested too deeply"
    except ValueError as error:  # a number with thousands of digits
        return None, str(error)


def _parse_lines(lines: Iterator[str]) -> Iterator[ParsedRecord]:
    index = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        value, problem = parse_json(line)
        if problem is not None:
            found = problem.replace("at line 1, column", "at column")
            problem = f"line {number} is not valid JSON ({found}); correct or remove that line."
        yield ParsedRecord(index, number, value, problem)
        index += 1


def _lines_of(text: str) -> Iterator[str]:
    return iter(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


def _outline(value: Any) -> str:
    if not isinstance(value, dict):
        return f"a single {type(value).__name__}"
    names = ", ".join(repr(name) for name in list(value)[:6])
    return f"one object (with {names})" if names else "one empty object"


def _not_utf8(path: Path, wanted: str, error: UnicodeDecodeError) -> DatasetError:
    return DatasetError(
        f"{wanted} was asked from {path}, which is not UTF-8 (byte "
        f"0x{error.object[error.start]:02x}: {error.reason}). Save the file as UTF-8."
    )


def _unreadable(path: Path, wanted: str, error: OSError) -> DatasetError:
    return DatasetError(
        f"{wanted} was asked from {path}, which cannot be read ({error.strerror or error}). "
        "Check the file and its permissions."
    )
