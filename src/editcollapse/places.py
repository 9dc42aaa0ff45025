"""Where results lie: a folder of this machine, or a folder at any URL that fsspec knows."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

import filelock

from editcollapse.errors import ArtifactError

Waiting = Callable[[], None]
"""Called once when somebody else holds a lock."""

LOCKS = "locks"
"""Folder of the locks below the results folder."""


class Place(Protocol):
    """What holds results; paths are relative to it, with forward slashes."""

    name: str
    """For people, keys of locks and messages: the absolute path, or the URL."""
    here: Path
    """Folder of this machine to work in: the place itself, or its mirror."""

    def fetch(self, path: str, *, again: bool = False) -> Path:
        """Return a file of this machine with the present content.

        Args:
            path: the file's.
            again: whether to fetch it although there is a copy that seems to be the same.

        Raises:
            OSError: there is no such file, or the place cannot be read.
        """

    def put(self, temporary: Path, path: str) -> None:
        """Move a file of this machine, which lies in ``here``, to its path; whole or not at all.

        Raises:
            OSError: the place cannot be written.
        """

    def share(self, path: str) -> None:
        """Make a file that has been written in ``here`` one of the place's.

        Raises:
            OSError: the place cannot be written.
        """

    def list(self, folder: str) -> list[str]:
        """Return the paths of all files below a folder, sorted; none where it is not there."""

    def alone(self, key: str, waiting: Waiting) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of a key for the block; call ``waiting`` first where another holds it."""


def is_url(results: str) -> bool:
    """Return whether results lie somewhere that is reached by URL."""
    return "://" in results and not results.startswith("file://")


def place_name(results: str | Path) -> str:
    """Return one name for a place however it was written: an absolute path, or the URL."""
    text = str(results)
    if is_url(text):
        return text.rstrip("/")
    return str(Path(text.removeprefix("file://")).expanduser().resolve())


def place_of(results: str | Path) -> Place:
    """Return the place that a path or URL names.

    Raises:
        ResultsError: no package for such a URL is installed, or the URL is no good.
    """
    name = place_name(results)
    if not is_url(name):
        return _Folder(Path(name))
    from editcollapse.mirrors import RemotePlace

    return RemotePlace(name)


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


class _Folder:
    """A folder of this machine, or one that it has mounted."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self.here = folder

    def fetch(self, path: str, *, again: bool = False) -> Path:  # noqa: ARG002  no copies here
        found = self.here / safe_path(path)
        if not found.resolve().is_relative_to(self.here.resolve()):
            raise FileNotFoundError(2, "a link leads out of the results folder", path)
        if not found.is_file():
            raise FileNotFoundError(2, "no such file", path)
        return found

    def put(self, temporary: Path, path: str) -> None:
        target = self.here / safe_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.chmod(0o644)
        temporary.replace(target)

    def share(self, path: str) -> None:
        """Do nothing: what is written here is the place's."""

    def list(self, folder: str) -> list[str]:
        top = self.here / safe_path(folder)
        found = [path for path in top.rglob("*") if path.is_file()]
        return sorted(path.relative_to(self.here).as_posix() for path in found)

    @contextlib.contextmanager
    def alone(self, key: str, waiting: Waiting) -> Iterator[None]:
        path = self.here / LOCKS / f"{safe_path(key)}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            waiting()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
