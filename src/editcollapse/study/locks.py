"""The cache of jobs, and the locks on jobs and devices that processes of a machine share.

What a job computed is named by its manifest, ``artifacts/manifests/<key>.json``: a job is done when
that file is there and all files that it names are whole. Nothing else says so. All locks are the
operating system's and end with their holder, however that ends: nothing is left to clean up after
``kill -9``. The file system must have real locks (local, NFSv4, GPFS).

Results at a URL are locked in this machine's mirror: machines that need one job at the same moment
may both compute it. The first to leave its manifest counts, and the other takes that.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from editcollapse.errors import ResultsError
from editcollapse.runtime.environment import time_limit
from editcollapse.runtime.settings import settings
from editcollapse.study.artifacts import ArtifactStore, create_text, put_text, unwritable
from editcollapse.study.jobs import Job, Manifest
from editcollapse.study.results_folder import file_lock

logger = logging.getLogger(__name__)

MANIFESTS = "artifacts/manifests"
"""Folder of the manifests, below the results folder."""


def cached_or_computed(job: Job, compute: Callable[[], Manifest]) -> Manifest:
    """Return a job's manifest: the cached one if its files are whole, else computed.

    The process that computes has the device to itself. Damaged and missing files are logged.

    Args:
        job: its key names the lock.
        compute: computes the job; called by one process of this machine at a time.

    Raises:
        ResultsError: the results folder cannot be written.
    """
    manifest = cached_manifest(job)
    if manifest is not None:
        return manifest
    store = ArtifactStore(job.results)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(store.results.alone(job.key, lambda: _say_waiting(job)))
        except OSError as error:
            raise unwritable(store.results.name, error) from error
        cached = _read(store, job)
        damaged = [] if cached is None else _damaged(store, cached)
        if cached is not None and not damaged:
            return cached
        if damaged:
            logger.warning("computing again, damaged or missing: %s", ", ".join(damaged))
        with device_lock(), time_limit():
            manifest = compute()
        return _store(store, job, manifest)


def cached_manifest(job: Job) -> Manifest | None:
    """Return a job's cached manifest if its files are whole, else None; computes nothing."""
    store = ArtifactStore(job.results)
    manifest = _read(store, job)
    return manifest if manifest is not None and not _damaged(store, manifest) else None


def store_manifest(job: Job, manifest: Manifest) -> None:
    """Store a job's manifest; it replaces the one before.

    Raises:
        ResultsError: the results folder cannot be written.
    """
    put_text(ArtifactStore(job.results).results, _path(job), manifest.model_dump_json())


def _say_waiting(job: Job) -> None:
    logger.info("%s: another process computes it; waiting", job.key)


def _path(job: Job) -> str:
    return f"{MANIFESTS}/{job.key}.json"


def _read(store: ArtifactStore, job: Job) -> Manifest | None:
    """Return the stored manifest, if it can be read."""
    try:
        text = store.results.fetch(_path(job)).read_text(encoding="utf-8")
        manifest = Manifest.model_validate_json(text)
    except (OSError, ValueError):
        return None
    return manifest if manifest.unit_id == job.key else None


def _damaged(store: ArtifactStore, manifest: Manifest) -> list[str]:
    """Return the files of a manifest that are not whole."""
    return [ref.path for ref in manifest.refs if not store.is_whole(ref)]


def _store(store: ArtifactStore, job: Job, manifest: Manifest) -> Manifest:
    """Store a manifest; return it, or the whole one that another machine has stored meanwhile."""
    text = manifest.model_dump_json()
    if create_text(store.results, _path(job), text):
        return manifest
    cached = cached_manifest(job)
    if cached is not None:
        return cached
    put_text(store.results, _path(job), text)
    return manifest


@contextlib.contextmanager
def device_lock(device: str | None = None) -> Iterator[None]:
    """Per-device lock: only one of a user's processes computes on a device at a time.

    Two models that fit on a GPU one after the other do not fit together, whichever flow runs they
    belong to. A CPU is not locked, unless EDITCOLLAPSE_DEVICE_LOCK=always says so.

    Args:
        device: its name on this machine; where left out, that of the device that
            EDITCOLLAPSE_DEVICE asks for.

    Raises:
        StudyError: EDITCOLLAPSE_DEVICE_LOCK is neither ``auto`` nor ``always``, or there is no such
            device.
        ResultsError: the folder of the locks cannot be written.
    """
    name = device or _shared_device()
    if name is None:
        yield
        return
    folder = _folder()

    def say_waiting() -> None:
        logger.info("%s: another process computes on it; waiting", name)

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(file_lock(folder / f"{name}.lock", say_waiting, mode=0o700))
        except OSError as error:
            raise ResultsError(
                f"cannot write to {folder}, where processes lock a device: {error.strerror}. "
                "Name another folder in EDITCOLLAPSE_DEVICE_LOCK_FOLDER."
            ) from error
        yield


def _folder() -> Path:
    """Return the folder of the locks: one for all processes of this user, or the one asked for."""
    asked = settings().device_lock_folder
    if asked:
        return Path(asked) / "devices"
    import platformdirs

    return Path(platformdirs.user_runtime_dir("editcollapse")) / "devices"


def _shared_device() -> str | None:
    """Return the name of the device asked for; None where it needs no lock."""
    from editcollapse.runtime.devices import best_device, physical_name

    asked = settings()
    device = best_device(asked.device)
    return physical_name(device) if device.type != "cpu" or asked.device_lock == "always" else None
