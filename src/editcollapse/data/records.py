"""Records of a JSON or JSONL file; one malformed line never hides the others."""

import dataclasses
import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from editcollapse.data.requests import SLOT, EditRequest
from editcollapse.errors import DatasetError, StudyError

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


Record = dict[str, Any]
TEXT_FIELDS = ("text", "Text")
_SHOWN = 60


class RecordError(ValueError):
    """A record cannot be used; the message is the reason that its rejection carries."""


def value_of(record: ParsedRecord) -> Any:
    """Return a record's JSON value. Raises RecordError where the line is no JSON."""
    if record.problem is not None:
        raise RecordError(record.problem)
    return record.value


def is_given(record: Record, name: str) -> bool:
    """Return whether an optional field says something: neither missing nor null."""
    return record.get(name) is not None


def required(record: Record, name: str, prefix: str = "") -> Any:
    """Return a field's value as it stands. Raises RecordError where it is missing or null."""
    if name not in record:
        raise RecordError(f"{prefix}{name} is missing; add it to the record.")
    if record[name] is None:
        raise RecordError(f"{prefix}{name} is null; give it a value.")
    return record[name]


def text(value: Any, path: str) -> str:
    """Return a string with its blanks untouched.

    Raises:
        RecordError: it is no string, blank, or holds half of a surrogate pair, which no
            tokenizer and no database takes.
    """
    if not isinstance(value, str):
        raise RecordError(
            f"{path} is {describe(value)} where a string is expected; write it as a string."
        )
    if not value or value.isspace():
        raise RecordError(f"{path} is empty; give it a text.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RecordError(
            f"{path} holds a lone surrogate ({shorten(ascii(value))}); repair its encoding."
        ) from None
    return value


def name_text(value: Any, path: str) -> str:
    """Return a subject or target without surrounding blanks. Raises RecordError as ``text``."""
    return text(value, path).strip()


def texts(value: Any, path: str) -> tuple[str, ...]:
    """Return one string, or a list of strings, as a tuple. Raises RecordError for anything else."""
    if not isinstance(value, list):
        return (text(value, path),)
    return tuple(text(item, f"{path}[{position}]") for position, item in enumerate(value))


def case_id_of(record: Any) -> str | None:
    """Return the ``case_id`` as a string; None where there is none that can be used."""
    value = record.get("case_id") if isinstance(record, dict) else None
    usable = isinstance(value, str | int | float) and not isinstance(value, bool)
    return _printable(str(value)).strip() or None if usable else None


def text_of_item(value: Any, field: str | None) -> str | None:
    """Return the text of one entry of a text set or corpus; None where it is null or blank.

    Args:
        value: a string, or an object with the text under ``field``.
        field: the text's field; None for ``text`` or ``Text``, whichever is there.

    Raises:
        RecordError: it is neither, has no such field, or the field is no string.
    """
    path = "the entry"
    if isinstance(value, dict):
        names = [name for name in ([field] if field else TEXT_FIELDS) if name in value]
        if not names:
            asked = repr(field) if field else " or ".join(repr(name) for name in TEXT_FIELDS)
            fields = shorten(", ".join(repr(name) for name in value) or "none")
            raise RecordError(
                f"the entry has no field {asked} (it has {fields}); name the text's field."
            )
        path, value = names[0], value[names[0]]
    blank = value is None or (isinstance(value, str) and not value.strip())
    return None if blank else text(value, path)


def describe(value: Any) -> str:
    """Return what a JSON value is, in words, with as much of it as fits a sentence."""
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
    """Return the text, cut to what a message can carry, with lone surrogates escaped."""
    return _printable(shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…")


def _printable(shown: str) -> str:
    return shown.encode("utf-8", "backslashreplace").decode()


MAX_CHARACTERS = 100_000
"""Longer than any prompt is, and short enough to be tokenized many times over."""


def subject_of(record: Record, prefix: str = "") -> str:
    """Return the subject. Raises RecordError where there is none, or it holds the slot's mark."""
    subject = required_name(record, "subject", prefix)
    if SLOT in subject:
        raise RecordError(f"{prefix}subject holds {SLOT}, which marks the slot; remove the braces.")
    return subject


def edit_request(prompt: str, *, subject: str, target: str) -> EditRequest:
    """Edit request of one fact, without probes.

    Args:
        prompt: with ``{}`` where the subject stands; or with the subject itself.
        subject: the entity.
        target: the object to be written.

    Raises:
        StudyError: subject or target is blank, or the prompt has no place for the subject.
    """
    subject, target = subject.strip(), target.strip()
    if not subject or not target:
        blank = "`subject`" if not subject else "`target`"
        raise StudyError(f"{blank} is blank; give a word.")
    if SLOT in subject:
        raise StudyError(f"`subject` holds {SLOT}, which marks its place; remove the braces.")
    try:
        return check_lengths(
            EditRequest(subject, slotted_prompt(prompt, subject, "`prompt`"), target, None)
        )
    except RecordError as error:
        raise StudyError(str(error)) from error


def check_lengths(request: EditRequest) -> EditRequest:
    """Return a request. Raises RecordError where a text is longer than any model's context."""
    named = {
        "subject": (request.subject,),
        "prompt": (request.prompt,),
        "target_new": (request.target_new,),
        "target_true": (request.target_true or "",),
        "a paraphrase prompt": request.paraphrase_prompts,
        "a neighborhood prompt": request.neighborhood_prompts,
        "a neighborhood target": request.neighborhood_targets,
    }
    for name, found in named.items():
        longest = max(map(len, found), default=0)
        if longest > MAX_CHARACTERS:
            raise RecordError(
                f"{name} has {longest} characters, and a sentence has at most {MAX_CHARACTERS}; "
                "shorten it."
            )
    return request


def required_name(record: Record, name: str, prefix: str = "") -> str:
    """Return a subject or target without surrounding blanks. Raises RecordError as ``text``."""
    return name_text(required(record, name, prefix), prefix + name)


def optional_name(record: Record, name: str) -> str | None:
    """Return such a field, None where it is absent or null. Raises RecordError as ``text``."""
    return name_text(record[name], name) if is_given(record, name) else None


def true_name(record: Record, name: str) -> str | None:
    """Return the true object: a string, or the first of a list of accepted answers.

    None where the field is absent, null or an empty list. Raises RecordError for anything else.
    """
    value = record.get(name)
    if not isinstance(value, list):
        return optional_name(record, name)
    return name_text(value[0], f"{name}[0]") if value else None


def required_prompt(record: Record, name: str, subject: str, prefix: str = "") -> str:
    """Return the rewrite prompt with its one slot. Raises RecordError as ``slotted_prompt``."""
    prompt = text(required(record, name, prefix), prefix + name)
    return slotted_prompt(prompt, subject, prefix + name)


def slotted_prompt(prompt: str, subject: str, path: str) -> str:
    """Return the prompt with exactly one slot, made from the subject where the prompt has none.

    Without a slot, the first occurrence of the subject becomes it; one that stands as whole words
    goes before one inside a longer word (``Art`` in ``The Party of Art``). Other occurrences, and
    braces that are not ``{}``, stay text. EasyEdit replaces every occurrence, which leaves such a
    prompt with several slots.

    Raises:
        RecordError: several slots, or neither a slot nor the subject.
    """
    n_slots = prompt.count(SLOT)
    if n_slots > 1:
        raise RecordError(
            f"{path} has {n_slots} slots {SLOT} in {shorten(repr(prompt))}; keep exactly one."
        )
    if n_slots == 1:
        return prompt
    start = _find_subject(prompt, subject)
    if start < 0:
        raise RecordError(
            f"the subject {shorten(repr(subject))} does not occur in {path} {shorten(repr(prompt))}"
            f"{_normalisation_hint(prompt, subject)}; mark its place with {SLOT}."
        )
    return prompt[:start] + SLOT + prompt[start + len(subject) :]


def optional_probes(record: Record, name: str) -> tuple[str, ...]:
    """Return complete prompts; none where the field is absent or null. Raises as ``probes``."""
    return probes(record[name], name) if is_given(record, name) else ()


def probes(value: Any, path: str) -> tuple[str, ...]:
    """Return one or more complete prompts.

    Raises:
        RecordError: as ``texts``, and where a prompt has an open slot.
    """
    prompts = texts(value, path)
    for prompt in prompts:
        if SLOT in prompt:
            raise RecordError(
                f"{path} has an open slot {SLOT} in {shorten(repr(prompt))}; write it in full."
            )
    return prompts


def answers(value: Any, path: str, *, prompts: Sequence[str]) -> tuple[str, ...]:
    """Return one answer for each prompt, without surrounding blanks; none where ``value`` is None.

    Where an answer is a list, it holds alternatives, of which the first is taken.

    Raises:
        RecordError: another number of answers than of prompts, or an answer that is no string.
    """
    if value is None:
        return ()
    entries = value if isinstance(value, list) else [value]
    firsts = [item[0] if isinstance(item, list) and item else item for item in entries]
    if len(firsts) != len(prompts):
        raise RecordError(
            f"{path} has {len(firsts)} answers for {len(prompts)} prompts; give one for each."
        )
    return tuple(answer.strip() for answer in texts(firsts, path))


def _find_subject(prompt: str, subject: str) -> int:
    """Return where the subject starts: whole words first, then anywhere, else -1."""
    anywhere = start = prompt.find(subject)
    while start >= 0:
        before = prompt[max(start - 1, 0) : start]
        after = prompt[start + len(subject) : start + len(subject) + 1]
        if not (_joins(before) or _joins(after)):
            return start
        start = prompt.find(subject, start + 1)
    return anywhere


def _joins(character: str) -> bool:
    """Return whether a neighbouring character makes the match a part of a longer word."""
    return character.isalnum() or bool(character and unicodedata.combining(character))


def _normalisation_hint(prompt: str, subject: str) -> str:
    same = unicodedata.normalize("NFC", subject) in unicodedata.normalize("NFC", prompt)
    return " (they differ in Unicode normalisation only)" if same else ""
