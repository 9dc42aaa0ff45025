"""Fields of a third-party record: each is returned clean, or its fault is said in one sentence."""

from typing import Any

from editcollapse.json_files import ParsedRecord

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
