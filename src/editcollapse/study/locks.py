"""The cache of jobs, and the locks on jobs that processes of a machine share.

What a job computed is named by its manifest, ``artifacts/manifests/<key>.json``: a job is done when
that file is there and all files that it names are whole. Nothing else says so. All locks are the
operating system's and end with their holder, however that ends: nothing is left to clean up after
``kill -9``. The file system must have real locks (local, NFSv4, GPFS).

Results at a URL are locked in this machine's mirror: machines that need one job at the same moment
may both compute it. The first to leave its manifest counts, and the other takes that.
"""

import contextlib
import logging
from collections.abc import Callable

from editcollapse.runtime.environment import time_limit
from editcollapse.runtime.locks import device_lock
from editcollapse.study.artifacts import ArtifactStore, create_text, put_text, unwritable
from editcollapse.study.jobs import Job, Manifest

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
        damaged = [] if cached is None else _damaged(store, job, cached)
        if cached is not None and not damaged:
            return cached
        if damaged:
            logger.warning("computing again, damaged or missing: %s", ", ".join(damaged))
        with device_lock() if job.needs_device else contextlib.nullcontext(), time_limit():
            manifest = compute()
        return _store(store, job, manifest)


def cached_manifest(job: Job) -> Manifest | None:
    """Return a job's cached manifest if its files are whole, else None; computes nothing."""
    store = ArtifactStore(job.results)
    manifest = _read(store, job)
    return manifest if manifest is not None and not _damaged(store, job, manifest) else None


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


def _damaged(store: ArtifactStore, job: Job, manifest: Manifest) -> list[str]:
    """Return the files of a manifest that are not whole, of those that the job needs."""
    refs = (*manifest.refs, *(manifest.states if job.needs_states else ()))
    return [ref.path for ref in refs if not store.is_whole(ref)]


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
