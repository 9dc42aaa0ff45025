"""Make the store anew from row files alone: the way back from a damaged or lost database."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import duckdb

from editcollapse.errors import EditCollapseError, ResultsError
from storage.database import (
    REBUILT,
    WAIT_S,
    StoreBusyError,
    connect,
    hold_store,
    open_snapshot,
    publish_from,
    remove_database,
    replace_database,
)
from storage.migrate import migrate, refuse_newer
from storage.rows import ROWS_FOLDER, RowsFile, find_row_files, read_rows
from storage.transactions import message_of
from storage.writer import RowsFrame, write_frames

_FILES_AT_ONCE = 500
_LEDGER = "select table_name, digest from ledger order by ingest_order"


@dataclasses.dataclass(frozen=True, slots=True)
class SkippedFile:
    """A row file whose rows are not in the rebuilt store."""

    path: Path
    reason: str
    """What was found and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild took in, and what it could not."""

    n_files: int
    n_rows: int
    """Rows in the files, repeated ones included."""
    skipped: tuple[SkippedFile, ...]


def rebuild(
    results: Path, row_files: Iterable[RowsFile] | None = None, *, wait_s: float = WAIT_S
) -> RebuildReport:
    """Build a new store from row files, put it in the old one's place and publish it.

    The old store stays until the new one is whole. Files are taken in the old store's order as far
    as its ledger can be read, else in that of the snapshot, so that of two rows with one key the
    same one wins; the others follow sorted by table and digest.

    Args:
        results: the results folder.
        row_files: these files and no others; where left out, all under ``artifacts/rows`` and all
            that the old store had.
        wait_s: how long to wait for another process that writes, in seconds.

    Returns:
        What was taken in. ``skipped`` names each file that is damaged, does not fit its table, or
        is missing although the old store had it.

    Raises:
        StoreBusyError: another process holds the store for longer.
        ResultsError: the new store cannot be written, or the old one was written by a newer
            version. It is then as it was.
    """
    asked = find_row_files(results) if row_files is None else row_files
    files = {(file.table, file.digest): file for file in asked}
    with hold_store(results, wait_s=wait_s) as store:
        ledger = _ledger_of(store, wait_s) or _published_ledger(results)
        before = [key for key in ledger if key in files or row_files is None]
        order = [*before, *sorted(set(files) - set(before))]
        new = store.with_suffix(REBUILT)
        remove_database(new)
        try:
            report = _make(new, results, [files.get(key, _expected(*key)) for key in order])
            replace_database(new, store)
        except (duckdb.Error, OSError) as error:
            raise ResultsError(
                f"cannot write {new}: {message_of(error)}. The old store is as it was; free space "
                "and rebuild again."
            ) from error
        finally:
            remove_database(new)
        connection = connect(store, wait_s=wait_s)
        try:
            publish_from(connection, results)
        finally:
            connection.close()
    return report


def _make(new: Path, results: Path, files: list[RowsFile]) -> RebuildReport:
    """Make a new store of row files and close it."""
    connection = connect(new)
    try:
        migrate(connection)
        report = _fill(connection, results, files)
        connection.execute("checkpoint")
    finally:
        connection.close()
    return report


def _fill(
    connection: duckdb.DuckDBPyConnection, results: Path, files: list[RowsFile]
) -> RebuildReport:
    """Write the files that can be read, some hundred at a time."""
    skipped: list[SkippedFile] = []
    n_rows = 0
    for start in range(0, len(files), _FILES_AT_ONCE):
        frames: list[RowsFrame] = []
        for file in files[start : start + _FILES_AT_ONCE]:
            try:
                frames.append(RowsFrame(file, read_rows(results, file)))
            except EditCollapseError as error:
                skipped.append(SkippedFile(results / file.path, str(error)))
        n_rows += write_frames(connection, frames)
    return RebuildReport(len(files) - len(skipped), n_rows, tuple(skipped))


def _ledger_of(store: Path, wait_s: float) -> list[tuple[str, str]]:
    """Return table and digest of the old store's files in their order; none if it is unreadable."""
    if not store.is_file():
        return []
    try:
        connection = connect(store, wait_s=wait_s)
    except StoreBusyError:
        raise
    except EditCollapseError:
        return []
    try:
        refuse_newer(connection)
        return connection.execute(_LEDGER).fetchall()
    except duckdb.Error:
        return []
    finally:
        connection.close()


def _published_ledger(results: Path) -> list[tuple[str, str]]:
    """Return the same of what was last published; none if that is unreadable."""
    try:
        with open_snapshot(results) as snapshot:
            return snapshot.execute(_LEDGER).fetchall()
    except (EditCollapseError, duckdb.Error):
        return []


def _expected(table: str, digest: str) -> RowsFile:
    """Return the row file where it should lie."""
    return RowsFile(table, ROWS_FOLDER / table / f"{digest}.parquet", digest)
