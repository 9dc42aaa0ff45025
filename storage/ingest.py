"""Row files into tables: Parquet files of one table's rows, each checked by digest and schema."""

import dataclasses
import functools
import io
import os
import re
import typing
from collections.abc import Sequence
from pathlib import Path

import duckdb
import polars as pl

from editcollapse.errors import ArtifactError, EditCollapseError, ResultsError, nearest_first
from editcollapse.fingerprints import DIGEST_BYTES, digest_file
from editcollapse.rows.frames import schema_of
from editcollapse.rows.study import NATURAL_KEYS, ROW_TYPES

ROWS_FOLDER = Path("artifacts") / "rows"
"""Where row files live in a results folder: ``<table>/<digest>.parquet``."""
MAX_ROWS = 5_000_000
"""Rows of one file: a whole dataset's requests are one, and the largest has a hundredth of that."""
FILES_AT_ONCE = 500
"""Files whose rows are in memory at the same time."""
_DIGEST = re.compile(f"[0-9a-f]{{{2 * DIGEST_BYTES}}}")


@dataclasses.dataclass(frozen=True, slots=True)
class RowsFile:
    """A Parquet file with rows of one table."""

    table: str
    """A name of ``study.ROW_TYPES``."""
    path: Path
    """Absolute, or relative to the results folder."""
    digest: str
    """Digest of the file's bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class SkippedFile:
    """A row file whose rows are not in the database."""

    path: Path
    reason: str
    """What was found and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class IngestReport:
    """Row files that were ingested, and those that could not be."""

    n_files: int
    n_rows: int
    """Rows in the files, repeated ones included."""
    skipped: tuple[SkippedFile, ...]


def ingest(
    connection: duckdb.DuckDBPyConnection, results: Path, files: Sequence[RowsFile]
) -> IngestReport:
    """Take row files into the tables of an open database.

    Where two rows have one key the later file wins, and in a file the later row. A file that is
    damaged or does not fit its table is left out with the reason.

    To be called in one transaction: many would take twice as long.

    Args:
        connection: to a database with this version's schema.
        results: the results folder.
        files: the row files, in the order in which they are to count.

    Raises:
        duckdb.Error: the database cannot be written.
    """
    skipped: list[SkippedFile] = []
    n_rows = 0
    for start in range(0, len(files), FILES_AT_ONCE):
        parts: dict[str, list[pl.DataFrame]] = {}
        entries: list[tuple[str, str, int]] = []
        for file in files[start : start + FILES_AT_ONCE]:
            try:
                frame = read_rows(results, file)
            except EditCollapseError as error:
                skipped.append(SkippedFile(results / file.path, str(error)))
                continue
            parts.setdefault(file.table, []).append(frame)
            entries.append((file.table, file.digest, frame.height))
        for table, frames in parts.items():
            _put(connection, table, pl.concat(frames))
        _enter(connection, entries)
        n_rows += sum(height for _, _, height in entries)
    return IngestReport(len(files) - len(skipped), n_rows, tuple(skipped))


def _put(connection: duckdb.DuckDBPyConnection, table: str, rows: pl.DataFrame) -> None:
    """Insert the rows of one table in the place of those with the same keys."""
    keys = NATURAL_KEYS[table]
    rows = rows.unique(subset=list(keys), keep="last", maintain_order=True)
    same = " and ".join(f"old.{key} = incoming.{key}" for key in keys)
    connection.register("incoming", rows)
    try:
        connection.execute(f"delete from {table} as old using incoming where {same}")  # noqa: S608 - our own names
        connection.execute(f"insert into {table} by name from incoming")
    finally:
        connection.unregister("incoming")


def _enter(connection: duckdb.DuckDBPyConnection, entries: Sequence[tuple[str, str, int]]) -> None:
    """Write down which files the tables hold."""
    schema = ["table_name", "digest", "n_rows"]
    frame = pl.DataFrame(entries, schema=schema, orient="row")
    connection.register("incoming", frame.with_row_index("number", offset=1))
    try:
        connection.execute(
            "insert into row_files by name select * exclude (number), number + "
            "(select coalesce(max(place), 0) from row_files) as place from incoming"
        )
    finally:
        connection.unregister("incoming")


def find_row_files(results: Path) -> tuple[RowsFile, ...]:
    """Return the row files of a results folder, sorted by table and digest.

    What a killed process left half written has a name that starts with a dot, and is passed over;
    so are symbolic links, which may lead out of the folder.
    """
    folder = results / ROWS_FOLDER
    return tuple(
        RowsFile(path.parent.name, path.relative_to(results), path.stem)
        for path in sorted(folder.glob("*/*.parquet"))
        if not path.name.startswith(".") and not _is_linked(path)
    )


def read_rows(results: Path, file: RowsFile) -> pl.DataFrame:
    """Return the rows of a file, after checking its bytes and its columns.

    A column that may be empty is empty where the file lacks it: the file is older than the column.

    Raises:
        ArtifactError: the file is missing, or its bytes are not those its digest names.
        ResultsError: no such table, outside the results folder, not Parquet, or a column is
            missing, unknown, of another type, or empty where the table wants a value.
    """
    if file.table not in ROW_TYPES:
        raise ResultsError(
            f"row file {file.path} is for table {file.table!r}, which there is not. "
            f"Known: {nearest_first(file.table, ROW_TYPES)}."
        )
    path = _inside(results, file)
    if not path.is_file():
        raise ArtifactError(
            f"row file {path} is missing. Run its study again: what is not stored is recomputed."
        )
    found = digest_file(path)
    if found != file.digest:
        raise ArtifactError(
            f"row file {path} should have digest {file.digest}, but its bytes have {found}. "
            "Delete the file and run its study again."
        )
    try:
        lazy = pl.scan_parquet(io.BytesIO(path.read_bytes()))
        n_rows = lazy.select(pl.len()).collect().item()  # of its footer: a few bytes may hold many
        if n_rows > MAX_ROWS:
            raise ResultsError(
                f"row file {path} claims {n_rows} rows; a job leaves {MAX_ROWS} at most. "
                "It was not written with editcollapse; remove it."
            )
        frame = lazy.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ResultsError(f"row file {path} cannot be read as Parquet: {error}.") from error
    added = [
        pl.lit(None, dtype).alias(name)
        for name, dtype in _schema(file.table).items()
        if name not in frame.columns and name not in _required(file.table)
    ]
    frame = frame.with_columns(added)
    check_frame(file.table, frame, str(path))
    return frame.select(list(_schema(file.table)))


def check_frame(table: str, frame: pl.DataFrame, name: str) -> None:
    """Check that a frame has the columns of a table, each of its type and filled where it must be.

    Args:
        table: a name of ``study.ROW_TYPES``.
        frame: the rows.
        name: what to call the frame in a message.

    Raises:
        ResultsError: it has not; the message names the frame and the columns.
    """
    schema, required = _schema(table), _required(table)
    faults = [f"column {column!r} is missing" for column in schema if column not in frame.columns]
    for column, dtype in frame.schema.items():
        if column not in schema:
            faults.append(f"column {column!r} is unknown")
        elif dtype != schema[column]:
            faults.append(f"column {column!r} is {dtype}, not {schema[column]}")
        elif column in required and frame[column].null_count():
            faults.append(f"column {column!r} has {frame[column].null_count()} empty values")
    if faults:
        raise ResultsError(
            f"{name} does not hold rows of table {table}: {'; '.join(faults)}. "
            "Write it with editcollapse.rows.frames.frame_of."
        )


def _inside(results: Path, file: RowsFile) -> Path:
    """Return where a row file lies. Raises ResultsError if that is not below the results folder."""
    folder = Path(os.path.abspath(results))  # noqa: PTH100 - resolve() would follow links
    path = Path(os.path.normpath(folder / file.path))
    if not _DIGEST.fullmatch(file.digest) or not path.is_relative_to(folder) or _is_linked(path):
        raise ResultsError(
            f"row file {str(file.path)!r} with digest {file.digest!r} does not name a file of "
            f"{results}: it leads out of the folder, is a symbolic link, or has no digest's name. "
            "Whoever wrote that did not write it with editcollapse; remove it."
        )
    return path


def _is_linked(path: Path) -> bool:
    """Return whether a row file, or the folder of its table, is a symbolic link."""
    return path.is_symlink() or path.parent.is_symlink()


@functools.cache
def _schema(table: str) -> dict[str, pl.DataType]:
    """Return ``frames.schema_of``, read from the row type once."""
    return schema_of(table)


@functools.cache
def _required(table: str) -> frozenset[str]:
    """Return the columns that must not be empty: the fields whose type does not include None."""
    hints = typing.get_type_hints(ROW_TYPES[table])
    return frozenset(
        field.name
        for field in dataclasses.fields(ROW_TYPES[table])
        if type(None) not in typing.get_args(hints[field.name])
    )
