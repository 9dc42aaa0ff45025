"""Back up a results folder while studies run, and bring it back elsewhere.

What a study has finished does not change any more: files bear their digests as names. So only the
database is copied under the store's lock, and the files that it and the units name are added after.
"""

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from editcollapse.errors import ResultsError
from editcollapse.fingerprints import digest_file
from storage.bags import new_bag, unpack_bag
from storage.database import SNAPSHOT, STORE, WAIT_S, open_store, publish_from
from storage.rebuild import RebuildReport, rebuild
from storage.references import (
    ARTIFACTS,
    RECORDS,
    TEXTS,
    VECTORS,
    ledger_paths,
    read_sources,
    text_paths,
    vector_paths,
)
from storage.rows import ROWS_FOLDER
from storage.upkeep_lock import hold_upkeep

_SUFFIX = ".tar"
_PLACES = (ARTIFACTS, RECORDS)


@dataclasses.dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup holds."""

    n_files: int
    n_bytes: int
    left_out: tuple[str, ...]
    """Files that are missing or damaged, relative to the results folder."""


def back_up(
    results: Path, target: Path, *, tensors: bool = False, wait_s: float = WAIT_S
) -> BackupReport:
    """Write the database, row files, manifests and records of a results folder to one tar file.

    Args:
        results: the results folder; studies may run in it.
        target: the new file, with the suffix ``.tar``.
        tensors: whether to add updates, second moments and sums too, which are large and are
            computed again where they are missing.
        wait_s: how long to wait for another process that writes, in seconds.

    Raises:
        StoreBusyError: another process holds the store for longer, or tidies up.
        ResultsError: there is no database, or the file is there already or cannot be written.
    """
    if not (results / STORE).is_file():
        raise ResultsError(
            f"nothing to back up: there is no database in {results}. Name the folder that a study "
            f"wrote to, or make its database again: python -m flows rebuild --results {results}"
        )
    if target.suffix != _SUFFIX:
        raise ResultsError(f"a backup is a {_SUFFIX} file, not {target.name!r}: name it so.")
    with (
        hold_upkeep(results),
        tempfile.TemporaryDirectory(dir=results / STORE.parent, prefix=".backup-") as folder,
        new_bag(target) as bag,
    ):
        with open_store(results, wait_s=wait_s) as connection:
            database = publish_from(connection, Path(folder))
            wanted = (
                ledger_paths(connection)
                | text_paths(connection, results)
                | vector_paths(connection)
            )
            readable = [source for source in read_sources(results) if source.is_readable]
            named = frozenset(name for source in readable for name in source.names)
            # Read at once: Prefect writes its records in place.
            sources = {
                each.path.as_posix(): (results / each.path).read_bytes() for each in readable
            }
        bag.add(database, SNAPSHOT.as_posix())
        left_out = []
        files = {*wanted, *(name for name in named if tensors or _is_small(name))}
        for name in sorted(files):
            if _is_whole(results / name):
                bag.add(results / name, name)
            else:
                left_out.append(name)
        for path, data in sources.items():
            bag.add_bytes(data, path)
    return BackupReport(bag.n_files, bag.n_bytes, tuple(left_out))


def restore(source: Path, results: Path) -> RebuildReport:
    """Unpack a backup to a new results folder and make its database from the row files.

    Nothing in the archive is believed: its files are checked by digest, its database only gives
    the order in which row files count.

    Args:
        source: a file that ``back_up`` wrote.
        results: the folder to make; it must be empty if it is there.

    Raises:
        ResultsError: the folder has content, or the file is no whole backup. The folder is then
            as it was.
    """
    if results.exists() and (not results.is_dir() or any(results.iterdir())):
        raise ResultsError(
            f"{results} is there already and not empty. Restore to a new folder: --results DIR."
        )
    try:
        results.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=results.parent, prefix=f".{results.name}."))
    except OSError as error:
        raise ResultsError(
            f"cannot make a folder beside {results}: {error.strerror or error}. "
            "Give another with --results."
        ) from error
    try:
        unpack_bag(source, draft)
        for name in _strangers(draft):
            raise ResultsError(
                f"{source} is no backup of a results folder: it holds {name!r}. "
                "Nothing was restored."
            )
        report = rebuild(draft)
        draft.chmod(0o755)
        draft.replace(results)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return report


def _is_small(name: str) -> bool:
    """Return whether a file is rows, texts or vectors."""
    return name.startswith(tuple(f"{kind.as_posix()}/" for kind in (ROWS_FOLDER, TEXTS, VECTORS)))


def _is_whole(path: Path) -> bool:
    """Return whether a file is there, is no link, and has the bytes that its name says."""
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
        return False
    return digest_file(path) == path.stem


def _strangers(folder: Path) -> Iterator[str]:
    """Yield what does not belong into a results folder."""
    known = {SNAPSHOT.name, *(place.parts[0] for place in _PLACES)}
    yield from sorted(path.name for path in folder.iterdir() if path.name not in known)
