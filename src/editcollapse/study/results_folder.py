"""Where results lie: a folder of this machine, or a folder at any URL that fsspec knows."""

import contextlib
import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import filelock
import platformdirs

from editcollapse.errors import ArtifactError, ResultsError
from editcollapse.fingerprints import digest
from editcollapse.runtime.settings import settings

logger = logging.getLogger(__name__)


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


BEAT_S = 10.0
"""Seconds between two beats of a holder."""
ABANDONED_S = 60.0
"""Seconds without a beat after which a holder counts as gone."""
_POLL_S = 0.5


@contextlib.contextmanager
def lease(
    fs: Any,
    path: str,
    waiting: Waiting,
    *,
    beat_s: float = BEAT_S,
    abandoned_s: float = ABANDONED_S,
) -> Iterator[None]:
    """Hold a lock in a store for the block.

    Args:
        fs: an fsspec file system whose ``pipe_file`` knows ``mode="create"``.
        path: where the lock's objects lie; their names begin with it.
        waiting: called once if another holds the lock.
        beat_s: seconds between two beats.
        abandoned_s: seconds without one after which another holder counts as gone.

    Raises:
        OSError: the store cannot be read or written.
    """
    mine = _acquire(fs, path, waiting, abandoned_s)
    done = threading.Event()
    beats = threading.Thread(target=_beat, args=(fs, mine, done, beat_s), daemon=True)
    beats.start()
    try:
        yield
    finally:
        done.set()
        beats.join()
        _release(fs, path, mine)


def _release(fs: Any, path: str, mine: str) -> None:
    """Remove one's own generation and those before it; what cannot be will count as abandoned."""
    own = int(mine.rpartition(".")[2])
    try:
        for number in _generations(fs, path):
            if number <= own:
                fs.rm_file(f"{path}.{number}")
    except Exception as error:  # noqa: BLE001  whatever the store's package raises
        logger.warning("could not remove the lock %s: %s", path, error)


def _acquire(fs: Any, path: str, waiting: Waiting, abandoned_s: float) -> str:
    """Create the next generation as soon as the last one is free; return its path."""
    seen: tuple[int, bytes] | None = None
    since = time.monotonic()
    told = False
    while True:
        number, content = _last(fs, path)
        if (number, content) != seen:
            seen, since = (number, content), time.monotonic()
        stale = time.monotonic() - since > abandoned_s
        if number == 0 or stale:
            if number:
                logger.warning("%s: its holder has gone; taking over", path)
            mine = f"{path}.{number + 1}"
            if _created(fs, mine):
                return mine
            continue
        if not told:
            waiting()
            told = True
        time.sleep(_POLL_S)


def _last(fs: Any, path: str) -> tuple[int, bytes]:
    """Return number and content of the last generation; 0 where there is none."""
    numbers = _generations(fs, path)
    try:
        return (numbers[-1], fs.cat_file(f"{path}.{numbers[-1]}")) if numbers else (0, b"")
    except FileNotFoundError:
        return 0, b""


def _generations(fs: Any, path: str) -> list[int]:
    """Return the numbers of a lock's objects, in order."""
    folder, _, stem = path.rpartition("/")
    fs.invalidate_cache(folder)
    try:
        names = [name.rpartition("/")[2] for name in fs.ls(folder, detail=False)]
    except FileNotFoundError:
        return []
    ends = [name.removeprefix(f"{stem}.") for name in names if name.startswith(f"{stem}.")]
    return sorted(int(end) for end in ends if end.isdecimal())


def _created(fs: Any, path: str) -> bool:
    """Create an object; return False where another was faster."""
    try:
        fs.pipe_file(path, _content(0), mode="create")
    except FileExistsError:
        return False
    return True


def _beat(fs: Any, path: str, done: threading.Event, beat_s: float) -> None:
    """Rewrite an object until the block is done; a store that hiccups is tried again."""
    beat = 0
    while not done.wait(beat_s):
        beat += 1
        try:
            fs.pipe_file(path, _content(beat))
        except Exception as error:  # noqa: BLE001  whatever the store's package raises
            logger.warning("could not renew the lock %s: %s", path, error)


def _content(beat: int) -> bytes:
    owner = f"PID {os.getpid()} on {socket.gethostname()}"
    return json.dumps({"owner": owner, "beat": beat}).encode()


_UKEYS = ".ukeys"
"""Folder in a mirror with what each file's remote state was when the mirror got it."""
_EXTRAS = {"s3": "s3", "s3a": "s3"}
"""Our extra that brings a protocol's package."""
_WITH_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci"})
"""Stores without folders: to make one there would make a bucket, which is the user's to do."""


class RemotePlace:
    """A folder at a URL, with its mirror; a ``results_folder.Place``.

    Args:
        url: as ``results_folder.place_name`` returns it.

    Raises:
        ResultsError: no package for such a URL is installed, or the URL is no good.
    """

    def __init__(self, url: str) -> None:
        self.name = url
        self._fs, self._root = _file_system(url)
        cache = settings().cache or platformdirs.user_cache_dir("editcollapse")
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
