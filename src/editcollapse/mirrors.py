"""Results at a URL: files are worked on in a mirror, a folder of this machine of the same layout.

A file in the mirror counts as long as the remote one is the same; nothing is lost with a mirror.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs

from editcollapse.errors import ResultsError
from editcollapse.fingerprints import digest
from editcollapse.leases import lease
from editcollapse.places import LOCKS, Waiting, safe_path

_UKEYS = ".ukeys"
"""Folder in a mirror with what each file's remote state was when the mirror got it."""
_EXTRAS = {"s3": "s3", "s3a": "s3"}
"""Our extra that brings a protocol's package."""
_WITH_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci"})
"""Stores without folders: to make one there would make a bucket, which is the user's to do."""


class RemotePlace:
    """A folder at a URL, with its mirror; a ``places.Place``.

    Args:
        url: as ``places.place_name`` returns it.

    Raises:
        ResultsError: no package for such a URL is installed, or the URL is no good.
    """

    def __init__(self, url: str) -> None:
        self.name = url
        self._fs, self._root = _file_system(url)
        cache = os.environ.get("EDITCOLLAPSE_CACHE") or platformdirs.user_cache_dir("editcollapse")
        self.here = Path(cache) / "mirrors" / digest("mirror", url)

    def fetch(self, path: str, *, again: bool = False) -> Path:
        """Return the mirror's copy, fetched where it is not the present one; as ``Place``."""
        url, found = f"{self._root}/{safe_path(path)}", self.here / path
        with _as_os_errors():
            state = self._state(url)
            if not again and found.is_file() and self._known_state(path) == state:
                return found
            found.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=found.parent, prefix=".")
            os.close(handle)
            try:
                self._fs.get_file(url, name)
                Path(name).replace(found)
            finally:
                Path(name).unlink(missing_ok=True)
            self._know(path, state)
        return found

    def put(self, temporary: Path, path: str) -> None:
        """Move a file of the mirror to its path, here and there; as ``Place``."""
        target = self.here / safe_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)
        self.share(path)

    def share(self, path: str) -> None:
        """Upload a file of the mirror; as ``Place``."""
        url = f"{self._root}/{safe_path(path)}"
        with _as_os_errors():
            self._make_folder_of(url)
            self._fs.put_file(str(self.here / path), url)
            state = self._state(url)
        self._know(path, state)

    def list(self, folder: str) -> list[str]:
        """Return the paths of all remote files below a folder; as ``Place``."""
        with _as_os_errors():
            self._fs.invalidate_cache()
            found = self._fs.find(f"{self._root}/{safe_path(folder)}")
        return sorted(path[len(self._root) :].lstrip("/") for path in found)

    def alone(self, key: str, waiting: Waiting) -> contextlib.AbstractContextManager[None]:
        """Hold a lease for the block; as ``Place``."""
        path = f"{self._root}/{LOCKS}/{safe_path(key)}"
        with _as_os_errors():
            self._make_folder_of(path)
        return lease(self._fs, path, waiting)

    def _make_folder_of(self, url: str) -> None:
        """Make the folder of a file where the store has folders."""
        protocols = {self._fs.protocol} if isinstance(self._fs.protocol, str) else self._fs.protocol
        if not _WITH_BUCKETS & set(protocols):
            self._fs.makedirs(url.rpartition("/")[0], exist_ok=True)

    def _state(self, url: str) -> str:
        """Return what tells one content of a remote file from another."""
        self._fs.invalidate_cache(url)
        info = self._fs.info(url)
        if info["type"] != "file":
            raise FileNotFoundError(2, "no such file", url)
        marks = [info.get(mark) for mark in ("size", "ETag", "etag", "md5Hash", "mtime", "created")]
        return digest([str(mark) for mark in (*marks, info.get("LastModified"))])

    def _known_state(self, path: str) -> str | None:
        try:
            return (self.here / _UKEYS / path).read_text(encoding="ascii")
        except OSError:
            return None

    def _know(self, path: str, state: str) -> None:
        known = self.here / _UKEYS / path
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text(state, encoding="ascii")


def _file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the folder's path in it."""
    import fsspec

    protocol = url.split("://", maxsplit=1)[0]
    try:
        system, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f"pip install 'editcollapse[{extra}]'" if extra else str(error)
        raise ResultsError(f"no package for {protocol}:// is installed: {remedy}.") from error
    except ValueError as error:
        raise ResultsError(f"{url} names no place for results: {error}.") from error
    return system, root.rstrip("/")


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Turn what a store's own package raises into the OSError that a folder would."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise OSError(5, f"{type(error).__name__}: {words}") from error
