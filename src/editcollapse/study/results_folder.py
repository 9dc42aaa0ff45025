"""The results folder: a folder of this machine, or a folder at any URL that fsspec knows.

Results at a URL are worked on in a mirror, a folder of this machine of the same layout, since
DuckDB reads and writes files only. A file in the mirror counts as long as the remote one is the
same; nothing is lost with a mirror. fsspec's own caches keep files under flat hashed names.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import platformdirs

from editcollapse.errors import ArtifactError, ResultsError
from editcollapse.fingerprints import digest
from editcollapse.runtime.locks import Waiting, file_lock
from editcollapse.runtime.settings import settings

LOCKS = "locks"
"""Folder of the locks below the results folder, or below its mirror."""
_UKEYS = ".ukeys"
"""Folder in a mirror with what each file's remote state was when the mirror got it."""
_EXTRAS = {"s3": "s3", "s3a": "s3"}
"""Our extra that brings a protocol's package."""
_WITH_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci"})
"""Stores without folders: to make one there would make a bucket, which is the user's to do."""


class ResultsFolder:
    """A results folder of this machine, or one that it has mounted.

    Args:
        folder: absolute.
    """

    name: str
    """For people, keys of locks and messages: the absolute path, or the URL."""
    here: Path
    """Folder of this machine to work in: the results folder itself, or its mirror."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self.here = folder

    def fetch(self, path: str, *, again: bool = False) -> Path:  # noqa: ARG002  no copies here
        """Return a file of this machine with the present content.

        Args:
            path: relative to the results folder, with forward slashes.
            again: whether to fetch it although there is a copy that seems to be the same.

        Raises:
            OSError: there is no such file, or the results folder cannot be read.
        """
        found = self.here / safe_path(path)
        if not found.resolve().is_relative_to(self.here.resolve()):
            raise FileNotFoundError(2, "a link leads out of the results folder", path)
        if not found.is_file():
            raise FileNotFoundError(2, "no such file", path)
        return found

    def put(self, temporary: Path, path: str) -> None:
        """Move a file of this machine, which lies in ``here``, to its path; whole or not at all.

        Raises:
            OSError: the results folder cannot be written.
        """
        target = self.here / safe_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.chmod(0o644)
        temporary.replace(target)

    def create(self, temporary: Path, path: str) -> bool:
        """Move a file to its path as ``put``, unless another machine was faster.

        Returns:
            Whether the file is now the results folder's. On one machine a lock decides who writes
            (``alone``), so it always is.

        Raises:
            OSError: the results folder cannot be written.
        """
        self.put(temporary, path)
        return True

    def remove(self, path: str) -> None:
        """Remove a file that nobody needs; nothing happens where it is not there.

        Raises:
            OSError: the results folder cannot be written.
        """
        (self.here / safe_path(path)).unlink(missing_ok=True)

    def share(self, path: str) -> None:
        """Make a file that has been written in ``here`` one of the results folder's.

        Raises:
            OSError: the results folder cannot be written.
        """

    def list(self, folder: str) -> list[str]:
        """Return the paths of all files below a folder, sorted; none where it is not there."""
        top = self.here / safe_path(folder)
        found = [path for path in top.rglob("*") if path.is_file()]
        return sorted(path.relative_to(self.here).as_posix() for path in found)

    @contextlib.contextmanager
    def alone(self, key: str, waiting: Waiting) -> Iterator[None]:
        """Hold the lock of a key for the block, among the processes of a file system.

        The lock is the operating system's: it ends with its holder, however that ends.

        Args:
            key: names the lock.
            waiting: called first where another process holds it.
        """
        with file_lock(self.here / LOCKS / f"{safe_path(key)}.lock", waiting):
            yield


class RemoteResultsFolder(ResultsFolder):
    """A results folder at a URL, with its mirror.

    Args:
        url: as ``results_name`` returns it.

    Raises:
        ResultsError: no package for such a URL is installed, or the URL is no good.
    """

    def __init__(self, url: str) -> None:
        cache = settings().cache or platformdirs.user_cache_dir("editcollapse")
        super().__init__(Path(cache) / "mirrors" / digest("mirror", url))
        self.name = url
        self._fs, self._root = _file_system(url)

    def fetch(self, path: str, *, again: bool = False) -> Path:
        """Return the mirror's copy, fetched where it is not the present one."""
        url, found = self._url(path), self.here / path
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
        """Move a file of the mirror to its path, here and there."""
        super().put(temporary, path)
        self.share(path)

    def create(self, temporary: Path, path: str) -> bool:
        """Move a file of the mirror to its path, here and there, unless it is there already."""
        url = self._url(path)
        with _as_os_errors():
            self._make_folder_of(url)
            try:
                self._fs.pipe_file(url, temporary.read_bytes(), mode="create")
            except FileExistsError:
                return False
            state = self._state(url)
        super().put(temporary, path)
        self._know(path, state)
        return True

    def remove(self, path: str) -> None:
        """Remove a file, here and there."""
        super().remove(path)
        with _as_os_errors(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._url(path))

    def share(self, path: str) -> None:
        """Upload a file of the mirror."""
        url = self._url(path)
        with _as_os_errors():
            self._make_folder_of(url)
            self._fs.put_file(str(self.here / path), url)
            state = self._state(url)
        self._know(path, state)

    def list(self, folder: str) -> list[str]:
        """Return the paths of all remote files below a folder, sorted."""
        with _as_os_errors():
            self._fs.invalidate_cache()
            found = self._fs.find(self._url(folder))
        return sorted(path[len(self._root) :].lstrip("/") for path in found)

    def _url(self, path: str) -> str:
        return f"{self._root}/{safe_path(path)}"

    def _make_folder_of(self, url: str) -> None:
        """Make the folder of a file where the store has folders."""
        protocols = {self._fs.protocol} if isinstance(self._fs.protocol, str) else self._fs.protocol
        if not _WITH_BUCKETS & set(protocols):
            self._fs.makedirs(url.rpartition("/")[0], exist_ok=True)

    def _state(self, url: str) -> str:
        """Return the version of a remote file: it changes with its content."""
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


def is_url(results: str) -> bool:
    """Return whether results lie somewhere that is reached by URL."""
    return "://" in results and not results.startswith("file://")


def results_name(results: str | Path) -> str:
    """Return one name for a results folder however it was written: an absolute path, or the URL."""
    text = str(results)
    if is_url(text):
        return text.rstrip("/")
    return str(Path(text.removeprefix("file://")).expanduser().resolve())


def results_at(results: str | Path) -> ResultsFolder:
    """Return the results folder that a path or URL names.

    Raises:
        ResultsError: no package for such a URL is installed, or the URL is no good.
    """
    name = results_name(results)
    return RemoteResultsFolder(name) if is_url(name) else ResultsFolder(Path(name))


def safe_path(path: str) -> str:
    """Return a relative path that stays below the folder that it is relative to.

    Raises:
        ArtifactError: it is absolute, climbs, or has characters that no file of ours has.
    """
    parts = PurePosixPath(path).parts
    plain = bool(parts) and not path.startswith(("/", "~")) and ".." not in parts
    if not plain or "\\" in path or ":" in path or not path.isprintable():
        raise ArtifactError(
            f"{path!r} is no path of a results folder. The record that names it is damaged or was "
            "tampered with: delete it and run the study again."
        )
    return path


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
