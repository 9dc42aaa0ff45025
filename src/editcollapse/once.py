"""One process computes a unit, others wait and take what it left.

An operating system's file lock: it ends with its holder, however that ends, so that nothing is
left to clean up after ``kill -9``. The file system must have real locks (local, NFSv4, GPFS).
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from editcollapse.artifacts import ArtifactStore
from editcollapse.errors import ResultsError
from editcollapse.orders import Manifest, Order

logger = logging.getLogger(__name__)

LOCKS = Path("locks")
"""Folder of the locks below the results folder."""
MANIFESTS = Path("artifacts") / "manifests"
"""Folder below the results folder where holders leave what they computed."""


def computed_once(order: Order, compute: Callable[[], Manifest]) -> Manifest:
    """Return a unit's manifest: what another process left if its files are whole, else computed.

    Args:
        order: the unit; its key names the lock.
        compute: computes the unit; called by one process at a time.

    Raises:
        ResultsError: the results folder cannot be written.
    """
    results = Path(order.results)
    left = results / MANIFESTS / f"{order.key}.json"
    with _alone(results, order.key):
        manifest = _whole(left, ArtifactStore(results))
        if manifest is None:
            manifest = compute()
            _leave(left, manifest)
    return manifest


def left_behind(order: Order) -> Manifest | None:
    """Return what a process left of a unit, if its files are whole; computes and waits for none."""
    results = Path(order.results)
    return _whole(results / MANIFESTS / f"{order.key}.json", ArtifactStore(results))


@contextlib.contextmanager
def _alone(results: Path, key: str) -> Iterator[None]:
    """Hold the unit's lock for the block, waiting for whoever holds it."""
    path = results / LOCKS / f"{key}.lock"
    lock = filelock.FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            logger.info("%s: another process computes it; waiting", key)
            lock.acquire()
    except OSError as error:
        raise _unwritable(results, error) from error
    try:
        yield
    finally:
        lock.release()


def _whole(left: Path, store: ArtifactStore) -> Manifest | None:
    """Return the manifest in a file, if it can be read and all its files are whole."""
    try:
        manifest = Manifest.model_validate_json(left.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if all(store.is_whole(ref) for ref in manifest.refs) else None


def _leave(left: Path, manifest: Manifest) -> None:
    """Write a manifest, whole or not at all."""
    try:
        left.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=left.parent, prefix=".", suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(manifest.model_dump_json())
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(left)
    except OSError as error:
        raise _unwritable(left.parent, error) from error


def _unwritable(folder: Path, error: OSError) -> ResultsError:
    return ResultsError(
        f"cannot write below {folder}: {error.strerror or error}. Free space or choose another "
        "folder with --results; finished work is kept."
    )
