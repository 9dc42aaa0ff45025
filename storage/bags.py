"""A tar file that holds a BagIt bag (RFC 8493): files with their SHA-256, checked by anyone.

``tar xf FILE`` and ``sha256sum -c manifest-sha256.txt`` check it without this project.
"""

import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from editcollapse.errors import ResultsError

PAYLOAD = "data"
MANIFEST = "manifest-sha256.txt"
_DECLARATION = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_CHUNK = 1 << 20
_MAX_MANIFEST = 1 << 28
"""Bytes of a manifest: some million files."""


class BagWriter:
    """Adds files to a bag; what it holds is written down at its end."""

    def __init__(self, tar: tarfile.TarFile, name: str) -> None:
        self._tar = tar
        self._name = name
        self._digests: dict[str, str] = {}
        self.n_bytes = 0
        self._add_text("bagit.txt", _DECLARATION)

    @property
    def n_files(self) -> int:
        """Files added so far."""
        return len(self._digests)

    def add(self, path: Path, name: str) -> None:
        """Add a file under a relative name with forward slashes.

        Raises:
            OSError: it cannot be read, or the bag cannot be written.
        """
        with path.open("rb") as stream:
            state = os.fstat(stream.fileno())
            digest = hashlib.sha256()
            entry = self._entry(f"{PAYLOAD}/{name}", state.st_size, state.st_mtime)
            self._tar.addfile(entry, _Watched(stream, digest))
        self._digests[f"{PAYLOAD}/{name}"] = digest.hexdigest()
        self.n_bytes += state.st_size

    def add_bytes(self, data: bytes, name: str) -> None:
        """Add a file's content as it was read. Raises OSError if the bag cannot be written."""
        self._add_text(f"{PAYLOAD}/{name}", data)
        self._digests[f"{PAYLOAD}/{name}"] = hashlib.sha256(data).hexdigest()
        self.n_bytes += len(data)

    def close(self) -> None:
        """Write down the digests: a bag without them is not whole."""
        lines = [f"{digest}  {name}\n" for name, digest in self._digests.items()]
        self._add_text(MANIFEST, "".join(lines).encode())

    def _add_text(self, name: str, text: bytes) -> None:
        self._tar.addfile(self._entry(name, len(text), time.time()), io.BytesIO(text))

    def _entry(self, name: str, size: int, changed_at: float) -> tarfile.TarInfo:
        """Return a member with nothing of this machine or user in it."""
        entry = tarfile.TarInfo(f"{self._name}/{name}")
        entry.size, entry.mtime, entry.mode = size, int(changed_at), 0o644
        return entry


@contextmanager
def new_bag(target: Path) -> Iterator[BagWriter]:
    """Give a writer of a bag that appears under its name when the block ends well, whole.

    Raises:
        ResultsError: there is such a file already, or it cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise ResultsError(f"{target} is there already. Give another name: a backup replaces none.")
    draft: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        draft = Path(name)
        with os.fdopen(handle, "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
                writer = BagWriter(tar, target.name.split(".")[0] or "backup")
                yield writer
                writer.close()
            stream.flush()
            os.fsync(stream.fileno())
        draft.chmod(0o644)
        draft.replace(target)
    except OSError as error:
        raise ResultsError(
            f"cannot write {target}: {error.strerror or error}. Free space or name a file "
            "elsewhere; nothing was left there."
        ) from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def unpack_bag(source: Path, folder: Path) -> int:
    """Unpack a bag's files below a folder, check every one, and return how many there are.

    The archive is not trusted: only plain files with relative names are taken, and what its
    manifest does not name, or names otherwise, is an error.

    Raises:
        ResultsError: no such file, no bag, not whole, or the folder cannot be written.
    """
    if not source.is_file():
        raise ResultsError(f"no backup {source}. Give a file that python -m flows backup wrote.")
    found: dict[str, str] = {}
    listed: dict[str, str] | None = None
    try:
        with tarfile.open(source, mode="r:") as tar:
            for member in tar:
                name = _inner_name(source, member, folder)
                stream = tar.extractfile(member)
                assert stream is not None  # a plain file has content
                if name == MANIFEST:
                    listed = _listed(source, stream.read(_MAX_MANIFEST))
                elif name.startswith(f"{PAYLOAD}/"):
                    if name in found:
                        raise _unusable(source, f"it holds {name} twice")
                    found[name] = _copy(stream, folder / name.removeprefix(f"{PAYLOAD}/"))
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise _unusable(source, str(error)) from error
    except OSError as error:
        raise ResultsError(
            f"cannot unpack {source} below {folder}: {error.strerror or error}. Free space or "
            "give another folder."
        ) from error
    if listed is None:
        raise _unusable(source, f"it has no {MANIFEST}: its copy was cut short")
    wrong = sorted(name for name in {*found, *listed} if found.get(name) != listed.get(name))
    if wrong:
        raise _unusable(source, f"{len(wrong)} files are not as it lists them, first {wrong[0]}")
    return len(found)


def _inner_name(source: Path, member: tarfile.TarInfo, folder: Path) -> str:
    """Return a member's name inside the bag. Raises ResultsError if it may not be unpacked."""
    if not hasattr(tarfile, "data_filter"):
        raise ResultsError(
            "this Python cannot unpack archives safely (tarfile.data_filter is missing). Restore "
            "with Python 3.11.4 or later."
        )
    try:
        tarfile.data_filter(member, str(folder))
    except tarfile.FilterError as error:
        raise _unusable(source, str(error)) from error
    parts = PurePosixPath(member.name).parts
    is_plain = member.isreg() and not member.issparse()
    if not is_plain or len(parts) < 2 or ".." in parts or "\\" in member.name:  # noqa: PLR2004
        raise _unusable(source, f"{member.name!r} is no plain file of a bag")
    return "/".join(parts[1:])


def _copy(stream: IO[bytes], target: Path) -> str:
    """Write a member's bytes to a new file and return their digest."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as out:
        shutil.copyfileobj(_Watched(stream, digest), out, _CHUNK)
    return digest.hexdigest()


def _listed(source: Path, text: bytes) -> dict[str, str]:
    """Return name to digest as a manifest has them."""
    try:
        lines = text.decode().splitlines()
    except UnicodeDecodeError as error:
        raise _unusable(source, f"its {MANIFEST} is not UTF-8") from error
    matches = [_LINE.fullmatch(line) for line in lines]
    if not all(matches):
        raise _unusable(source, f"its {MANIFEST} has a line that names no file")
    return {match[2]: match[1] for match in matches if match is not None}


def _unusable(source: Path, what: str) -> ResultsError:
    return ResultsError(
        f"{source} is no whole backup: {what}. Nothing was restored; take another copy of it."
    )


class _Watched(io.RawIOBase):
    """A stream whose bytes pass a digest while they are read."""

    def __init__(self, stream: IO[bytes], digest: "hashlib._Hash") -> None:
        super().__init__()
        self._stream = stream
        self._digest = digest

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        data = self._stream.read(size)
        self._digest.update(data)
        return data
