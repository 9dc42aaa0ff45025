"""What killed processes leave in a results folder: half-written files, and locks of nobody."""

import re
from collections.abc import Iterator
from pathlib import Path

from editcollapse.running_studies import is_free

from editcollapse.study.results_folder import LOCKS
from storage.database import NEW, REBUILT, SNAPSHOT, STORE
from storage.references import ARTIFACTS, plain_files

_DRAFT = re.compile(r"\.\w+\.(?:safetensors|parquet|json)")
_DATABASES = (
    STORE.with_suffix(NEW),
    STORE.with_suffix(REBUILT),
    SNAPSHOT.with_suffix(".duckdb.tmp"),
)


def drafts(results: Path) -> Iterator[Path]:
    """Yield what was never finished, relative to the results folder.

    The caller holds the store: with it, nobody is writing one of the databases among them.
    """
    for path in plain_files(results / ARTIFACTS):
        if _DRAFT.fullmatch(path.name):
            yield path.relative_to(results)
    for folder in (results / STORE.parent).glob(".backup-*"):
        for path in plain_files(folder):
            yield path.relative_to(results)
    for database in _DATABASES:
        for draft in (database, database.with_name(f"{database.name}.wal")):
            if (results / draft).is_file() and not (results / draft).is_symlink():
                yield draft


def free_locks(results: Path) -> Iterator[Path]:
    """Yield the lock files of units and studies that nobody holds."""
    for path in plain_files(results / LOCKS):
        if path.suffix == ".lock" and is_free(path):
            yield path.relative_to(results)
