"""Build ``results.duckdb`` from row files, whole or not at all, and put it where readers find it.

The row files of a results folder are the store. A build copies what is published, adds the files
that it lacks, and takes its place at once; where nothing is published, or another version built it,
it is made of all files. One process builds at a time, also of those on other machines; readers
never wait. Of two rows with one key that of the file that was written later counts.
"""

import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import duckdb

from editcollapse.errors import ArtifactError, EditCollapseError, ResultsError
from editcollapse.study.artifacts import unwritable
from editcollapse.study.results_folder import ResultsFolder, is_url
from storage.ask import query_text
from storage.database import (
    DRAFT,
    SNAPSHOT,
    message_of,
    open_draft,
    open_snapshot,
    remove_database,
    replace_database,
    transaction,
)
from storage.ingest import ROWS_FOLDER, IngestReport, RowsFile, find_row_files, ingest
from storage.schema import make_schema, schema_digest

logger = logging.getLogger(__name__)

_LOCK = "publish"
_Key = tuple[str, str]
"""Table and digest of a row file."""
_OF_THE_DISK = ("No space left on device", "Read-only file system", "Permission denied")
"""What DuckDB says of a file that it cannot write; the file itself may be well."""


def publish(folder: ResultsFolder) -> IngestReport:
    """Let readers see all row files of a results folder; nothing is written where they do.

    Returns:
        What was added. A file that cannot be used is left out, logged, and tried again by
        the next call.

    Raises:
        ResultsError: the folder cannot be read or written; what was published then stays.
    """
    return _build(folder, None, anew=False)


def rebuild(folder: ResultsFolder, files: Iterable[RowsFile] | None = None) -> IngestReport:
    """Build ``results.duckdb`` from row files alone, whatever is published.

    Files count in the order of what is published, as far as that can be read; the others follow by
    the time when they were written, then by table and digest.

    Args:
        folder: the results folder.
        files: these and no others, in this order; all of the folder where left out.

    Returns:
        What was taken in. ``skipped`` names each file that is damaged, does not fit its table, or
        is missing although it was published.

    Raises:
        ResultsError: the folder cannot be read or written; what was published then stays.
    """
    return _build(folder, None if files is None else list(files), anew=True)


def snapshot_is_current(folder: ResultsFolder) -> bool:
    """Return whether what is published can be read and has every row file of the results folder."""
    try:
        here = folder_to_read(folder)
    except ResultsError:
        return False
    included = _included(here, of_this_version=True)
    return included is not None and set(_row_files(folder)) <= set(included)


def folder_to_read(folder: ResultsFolder) -> Path:
    """Return the folder of this machine with what is published now.

    Raises:
        ResultsError: nothing has been published there, or it cannot be reached.
    """
    if is_url(folder.name):
        try:
            folder.fetch(SNAPSHOT.as_posix())
        except FileNotFoundError as error:
            raise ResultsError(
                f"no results yet at {folder.name}. Run a study there first: editcollapse run "
                f"STUDY.toml --results {folder.name}"
            ) from error
        except OSError as error:
            raise ResultsError(
                f"cannot read {folder.name}: {error.strerror}. Check the URL and your credentials."
            ) from error
    return folder.here


def row_files_in_order(folder: ResultsFolder) -> list[RowsFile]:
    """Return all row files of a results folder in the order in which they count.

    Those that ``results.duckdb`` is made of come first, in their order and also where they are
    missing by now; the others follow by the time when they were written.
    """
    return _in_order(folder, _row_files(folder))


def _in_order(folder: ResultsFolder, present: dict[_Key, RowsFile]) -> list[RowsFile]:
    """Return the row files that are there, and those that were published, as they count."""
    before = _included(folder.here) or []
    others = _by_time(folder, [present[key] for key in present.keys() - set(before)])
    return [*(_fetched(folder, present.get(key, _expected(key))) for key in before), *others]


def _build(folder: ResultsFolder, asked: Sequence[RowsFile] | None, *, anew: bool) -> IngestReport:
    """Build and publish, alone; return what was taken in."""
    try:
        with folder.alone(_LOCK, lambda: logger.info("another process publishes; waiting")):
            report = _shared(folder, asked, anew=anew)
    except OSError as error:
        raise unwritable(folder.name, error) from error
    for skipped in report.skipped:
        logger.warning("left out of %s: %s", SNAPSHOT, skipped.reason)
    return report


def _shared(folder: ResultsFolder, asked: Sequence[RowsFile] | None, *, anew: bool) -> IngestReport:
    """Build and publish until no row file of a remote folder is missing from what readers get.

    The lock is this machine's: of machines that publish at the same time, who finds after its
    upload a row file that what is published lacks publishes again. So the last upload has all.
    """
    _refresh(folder)
    report = _made(folder, asked, anew=anew)
    while is_url(folder.name) and asked is None and not report.skipped:
        _refresh(folder)
        again = _made(folder, None, anew=False)
        if not again.n_files:
            break
        report = IngestReport(
            report.n_files + again.n_files, report.n_rows + again.n_rows, again.skipped
        )
    return report


def _refresh(folder: ResultsFolder) -> None:
    """Fetch what other machines have published; where nothing is, a mirror's own copy goes too."""
    if is_url(folder.name):
        try:
            folder.fetch(SNAPSHOT.as_posix())
        except FileNotFoundError:
            remove_database(folder.here / SNAPSHOT)


def _made(folder: ResultsFolder, asked: Sequence[RowsFile] | None, *, anew: bool) -> IngestReport:
    """Build on what is published where that can be, else from all files."""
    if asked is not None:
        return _from_all(folder, asked)
    present = _row_files(folder)
    base = None if anew else _included(folder.here, of_this_version=True)
    if base is not None:
        fresh = _by_time(folder, [present[key] for key in present.keys() - set(base)])
        if not fresh:
            return IngestReport(0, 0, ())
        try:
            return _written(folder, fresh, base=folder.here / SNAPSHOT)
        except duckdb.Error as error:
            if any(reason in str(error) for reason in _OF_THE_DISK):
                raise _unpublished(folder, error) from error
            logger.warning("%s is damaged and is built anew: %s", SNAPSHOT, message_of(error))
    return _from_all(folder, _in_order(folder, present))


def _from_all(folder: ResultsFolder, files: Sequence[RowsFile]) -> IngestReport:
    """Build from these files and no others."""
    try:
        return _written(folder, files, base=None)
    except duckdb.Error as error:
        raise _unpublished(folder, error) from error


def _written(folder: ResultsFolder, files: Sequence[RowsFile], base: Path | None) -> IngestReport:
    """Write a draft of these files on top of a database, and put it in the snapshot's place.

    Raises:
        duckdb.Error: the database is damaged, or the draft cannot be written.
        ResultsError: the draft cannot take its place.
    """
    draft = folder.here / DRAFT
    try:
        remove_database(draft)
        if base is not None:
            shutil.copyfile(base, draft)
        with open_draft(draft) as connection, transaction(connection):
            if base is None:
                make_schema(connection)
            report = ingest(connection, folder.here, files)
            connection.execute(query_text("derived_columns"))
            connection.execute("delete from measured_edits")
            connection.execute(query_text("measured_edits"))
        replace_database(draft, folder.here / SNAPSHOT)
        folder.share(SNAPSHOT.as_posix())
    except OSError as error:
        raise _unpublished(folder, error) from error
    finally:
        remove_database(draft)
    return report


def _unpublished(folder: ResultsFolder, error: Exception) -> ResultsError:
    return ResultsError(
        f"could not publish {folder.name}/{SNAPSHOT}: {message_of(error).rstrip('.!')}. What was "
        "published stays, and all rows are safe in their files: free space or mend the cause, then "
        f"publish them: editcollapse rebuild --results {folder.name}"
    )


def _included(results: Path, *, of_this_version: bool = False) -> list[_Key] | None:
    """Return table and digest of the files that a database is made of, in their order.

    None where there is none that can be read, or, if so asked, one of another schema.
    """
    try:
        with open_snapshot(results) as snapshot:
            versions = snapshot.execute("select digest from schema_version").fetchall()
            if of_this_version and versions != [(schema_digest(),)]:
                return None
            keys = snapshot.execute(query_text("row_files")).fetchall()
    except (EditCollapseError, duckdb.Error):
        return None
    return [(str(table), str(digest)) for table, digest in keys]


def _row_files(folder: ResultsFolder) -> dict[_Key, RowsFile]:
    """Return the row files of a results folder; what is half written has a name with a dot."""
    if not is_url(folder.name):
        files = find_row_files(folder.here)
    else:
        paths = [PurePosixPath(path) for path in folder.list(ROWS_FOLDER.as_posix())]
        files = tuple(
            RowsFile(path.parent.name, Path(path), path.stem)
            for path in paths
            if path.suffix == ".parquet" and not path.name.startswith(".")
        )
    return {(file.table, file.digest): file for file in files}


def _by_time(folder: ResultsFolder, files: Iterable[RowsFile]) -> list[RowsFile]:
    """Return row files that lie on this machine, by the time when they were written there."""
    here = [_fetched(folder, file) for file in sorted(files, key=lambda each: each.path)]
    return sorted(here, key=lambda file: (_changed_at(folder.here / file.path), file.path))


def _changed_at(path: Path) -> int:
    """Return when a file was written, in nanoseconds; its reader reports one that has gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _fetched(folder: ResultsFolder, file: RowsFile) -> RowsFile:
    """Return a row file that lies on this machine; whoever reads a missing one reports it."""
    if not is_url(folder.name):
        return file
    try:
        folder.fetch(file.path.as_posix())
    except (FileNotFoundError, ArtifactError):
        logger.warning("%s is missing at %s", file.path, folder.name)
    return file


def _expected(key: _Key) -> RowsFile:
    """Return the row file where it should lie."""
    table, digest = key
    return RowsFile(table, ROWS_FOLDER / table / f"{digest}.parquet", digest)
