"""What a safetensors file says of itself, read without torch and believed only where it fits."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from editcollapse.errors import ModelError
from editcollapse.fingerprints import DIGEST_BYTES

_HEADER_LIMIT = 100_000_000
_CHUNK = 1 << 22


def tensor_headers(path: Path) -> dict[str, dict[str, Any]]:
    """Return name to ``{"dtype", "shape", "data_offsets"}`` of a safetensors file.

    Raises:
        ModelError: the file is not safetensors or is cut short.
    """
    header, _ = _read_header(path)
    return header


@lru_cache(maxsize=256)
def tensor_digests(path: Path, size: int, changed_ns: int) -> tuple[tuple[str, str], ...]:  # noqa: ARG001
    """Return each tensor's name and the digest of its type, shape and bytes.

    A file of the same size and time of change is read once in a process.

    Raises:
        ModelError: as ``tensor_headers``.
    """
    header, start = _read_header(path)
    digests = {}
    with path.open("rb") as stream:
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
            hasher.update(f"{entry['dtype']}{entry['shape']}".encode())
            stream.seek(start + first)
            left = last - first
            while left:
                chunk = stream.read(min(left, _CHUNK))
                hasher.update(chunk)
                left -= len(chunk)
            digests[name] = hasher.hexdigest()
    return tuple(digests.items())


def _read_header(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """Return the header without its metadata, and the offset at which the data begins."""
    broken = f"{path.name} is not a whole safetensors file: copy or download it again."
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= min(_HEADER_LIMIT, size - 8):
            raise ModelError(broken)
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise ModelError(broken) from error
    if not isinstance(header, dict):
        raise ModelError(broken)
    header.pop("__metadata__", None)
    if not all(_is_entry(entry) for entry in header.values()):
        raise ModelError(broken)
    # Tensors lie one behind the other and fill the file: none is there twice, none is missing.
    end = 0
    for first, last in sorted(tuple(entry["data_offsets"]) for entry in header.values()):
        if first != end:
            raise ModelError(broken)
        end = last
    if 8 + length + end != size:
        raise ModelError(broken)
    return header, 8 + length


def _is_entry(entry: Any) -> bool:
    """Return whether a header's entry has the form that it must have."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list):
        return False
    counts = [*shape, *offsets]
    plain = all(type(count) is int and count >= 0 for count in counts)
    return plain and len(offsets) == 2 and offsets[0] <= offsets[1]  # noqa: PLR2004
