"""Stable digests: equal content gives equal ids on every machine, whatever the folder is called."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

from editcollapse import NUMERICS

DIGEST_BYTES = 16
_CHUNK = 1 << 20


def digest(*parts: Any) -> str:
    """Return 32 hex digits that depend on the content of ``parts`` and on nothing else.

    Strings, numbers, booleans, None, lists, tuples, dicts, dataclasses and pydantic models are
    written as canonical JSON (sorted keys); a float is written by its shortest exact form.

    Raises:
        TypeError: a part is of another kind (a set, a path, a tensor) and has no stable digest.
    """
    text = json.dumps(
        [canonical(part) for part in parts], sort_keys=True, ensure_ascii=False, allow_nan=False
    )
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def canonical(value: Any) -> Any:
    """Return ``value`` as plain JSON data. Raises TypeError for what has no stable form."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else f"float:{value}"
    if hasattr(value, "model_dump"):  # pydantic's, which the numerics load without
        return canonical(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: canonical(getattr(value, field.name)) for field in fields}
    if isinstance(value, dict):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    raise TypeError(f"no stable digest for a {type(value).__name__}: {value!r}")


def canonical_without(value: Any, *later: str) -> Any:
    """Return a dataclass as plain JSON data, without those fields that hold their default.

    Fields that a type got later are no part of an id where they say nothing.

    Args:
        value: the dataclass.
        later: the fields.
    """
    fields = {field.name: field.default for field in dataclasses.fields(value)}
    plain = canonical(value)
    for name in later:
        if getattr(value, name) == fields[name]:
            del plain[name]
    return plain


def digest_bytes(data: bytes) -> str:
    """Return the digest of bytes; of a file's content the same as ``digest_file``."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def digest_file(path: Path) -> str:
    """Return the digest of a file's bytes."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def unit_key(kind: str, *parts: Any) -> str:
    """Return a job's cache key: its kind, the numerics version, its inputs' content."""
    return f"{kind}-{digest(kind, NUMERICS, *parts)}"
