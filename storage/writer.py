"""Take row files into the store: all of a call or nothing, every file once, every row once."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl

from editcollapse.errors import ResultsError
from editcollapse.rows.frames import schema_of
from editcollapse.rows.study import NATURAL_KEYS
from storage.database import STORE, WAIT_S, open_snapshot, open_store
from storage.rows import RowsFile, read_rows
from storage.transactions import message_of, transaction


@dataclasses.dataclass(frozen=True, slots=True)
class IngestReport:
    """What a call took in."""

    n_files: int
    """Files taken in."""
    n_rows: int
    """Rows in them, repeated ones included."""
    n_known: int
    """Files that were in the store already."""


@dataclasses.dataclass(frozen=True, slots=True)
class RowsFrame:
    """A row file that has been read and checked."""

    file: RowsFile
    frame: pl.DataFrame


def ingest(results: Path, files: Iterable[RowsFile], *, wait_s: float = WAIT_S) -> IngestReport:
    """Upsert the rows of all files by natural key, in one transaction with their ledger rows.

    A file whose digest the ledger has is skipped. Where two rows have one key the later file wins,
    and in a file the later row. Readers see the rows after ``database.publish_snapshot``.

    Args:
        results: the results folder.
        files: the row files, in the order in which they are to count.
        wait_s: how long to wait for another process that writes, in seconds.

    Raises:
        ArtifactError: a file is missing or is not what its digest says.
        ResultsError: a file does not fit its table, or the store cannot be opened or written.
            The store is then as it was.
    """
    asked = list(files)
    with open_store(results, wait_s=wait_s) as connection:
        known = _known(connection)
        fresh = {(file.table, file.digest): file for file in asked}
        kept = [file for key, file in fresh.items() if key not in known]
        frames = [RowsFrame(file, read_rows(results, file)) for file in kept]
        n_rows = write_frames(connection, frames)
    return IngestReport(len(kept), n_rows, len(asked) - len(kept))


def unrecorded(results: Path, files: Iterable[RowsFile]) -> tuple[RowsFile, ...]:
    """Return the files that the ledger does not name; all of them where there is no store yet.

    Raises:
        StoreBusyError: another process keeps the store.
    """
    wanted = tuple(files)
    if not (results / STORE).is_file():
        return wanted
    with open_store(results) as connection:
        known = _known(connection)
    return tuple(file for file in wanted if (file.table, file.digest) not in known)


def snapshot_is_current(results: Path) -> bool:
    """Return whether the snapshot can be read and names every file that the store holds.

    Raises:
        StoreBusyError: another process keeps the store.
    """
    try:
        with open_snapshot(results) as snapshot:
            published = _known(snapshot)
    except ResultsError:
        return False
    with open_store(results) as connection:
        return _known(connection) <= published


def write_frames(connection: duckdb.DuckDBPyConnection, frames: Sequence[RowsFrame]) -> int:
    """Write checked frames and their ledger rows in one transaction; return how many rows.

    Raises:
        ResultsError: DuckDB refuses. Nothing of the call is kept.
    """
    if not frames:
        return 0
    tables = sorted({part.file.table for part in frames})
    try:
        with transaction(connection):
            for table in tables:
                parts = [part.frame for part in frames if part.file.table == table]
                _upsert(connection, table, parts)
            return _enter(connection, frames)
    except duckdb.Error as error:
        raise ResultsError(
            f"could not write {len(frames)} row files into the results store: {message_of(error)}. "
            "Nothing of them was kept; mend the cause and run the study again."
        ) from error


def _upsert(
    connection: duckdb.DuckDBPyConnection, table: str, parts: Sequence[pl.DataFrame]
) -> None:
    """Insert the rows of one table; where a key is there already, replace its other columns."""
    names = list(schema_of(table))
    keys = NATURAL_KEYS[table]
    # DuckDB keeps the first of two equal keys in one insert and says nothing: the last has to win.
    rows = pl.concat(
        [part if part.columns == names else part.select(names) for part in parts]
    ).unique(subset=list(keys), keep="last", maintain_order=True)
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
    action = f"do update set {changes}" if changes else "do nothing"
    with _registered(connection, rows) as source:
        connection.execute(
            f"insert into {table} by name select * from {source} "  # noqa: S608 - our own names
            f"on conflict ({', '.join(keys)}) {action}"
        )


def _enter(connection: duckdb.DuckDBPyConnection, frames: Sequence[RowsFrame]) -> int:
    """Enter the files in the ledger; return how many rows they have."""
    (last,) = connection.execute("select coalesce(max(ingest_order), 0) from ledger").fetchall()[0]
    now = datetime.now(UTC).replace(tzinfo=None)
    entries = pl.DataFrame(
        {
            "table_name": [part.file.table for part in frames],
            "digest": [part.file.digest for part in frames],
            "n_rows": [part.frame.height for part in frames],
            "ingest_order": range(last + 1, last + 1 + len(frames)),
            "ingested_at": [now] * len(frames),
        }
    )
    with _registered(connection, entries) as source:
        connection.execute(f"insert into ledger by name select * from {source}")  # noqa: S608
    return int(entries["n_rows"].sum())


def _known(connection: duckdb.DuckDBPyConnection) -> frozenset[tuple[str, str]]:
    """Return table and digest of every file in the ledger."""
    entries = connection.execute("select table_name, digest from ledger").fetchall()
    return frozenset((table, digest) for table, digest in entries)


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, frame: pl.DataFrame) -> Iterator[str]:
    """Give a frame a name in SQL for as long as the block runs."""
    connection.register("incoming", frame)
    try:
        yield "incoming"
    finally:
        connection.unregister("incoming")
