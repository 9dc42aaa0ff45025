"""Row files: Parquet files of one table's rows, named by the digest of their bytes."""

import dataclasses
import functools
import io
import typing
from pathlib import Path

import polars as pl

from editcollapse.errors import ArtifactError, ResultsError, nearest_first
from editcollapse.fingerprints import digest_file
from editcollapse.outcomes import ROW_TYPES
from editcollapse.tables import schema_of

ROWS_FOLDER = Path("artifacts") / "rows"
"""Where row files live in a results folder: ``<table>/<digest>.parquet``."""


@dataclasses.dataclass(frozen=True, slots=True)
class RowsFile:
    """A Parquet file with rows of one table."""

    table: str
    """A name of ``outcomes.ROW_TYPES``."""
    path: Path
    """Absolute, or relative to the results folder."""
    digest: str
    """Digest of the file's bytes."""


def find_row_files(results: Path) -> tuple[RowsFile, ...]:
    """Return the row files of a results folder, sorted by table and digest.

    What a killed process left half written has a name that starts with a dot, and is passed over.
    """
    folder = results / ROWS_FOLDER
    return tuple(
        RowsFile(path.parent.name, path, path.stem)
        for path in sorted(folder.glob("*/*.parquet"))
        if not path.name.startswith(".")
    )


def read_rows(results: Path, file: RowsFile) -> pl.DataFrame:
    """Return the rows of a file, after checking its bytes and its columns.

    Raises:
        ArtifactError: the file is missing, or its bytes are not those its digest names.
        ResultsError: no such table, not Parquet, or a column is missing, unknown, of another type,
            or empty where the table wants a value.
    """
    path = results / file.path
    if file.table not in ROW_TYPES:
        raise ResultsError(
            f"row file {path} is for table {file.table!r}, which there is not. "
            f"Known: {nearest_first(file.table, ROW_TYPES)}."
        )
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
        frame = pl.read_parquet(io.BytesIO(path.read_bytes()))
    except pl.exceptions.PolarsError as error:
        raise ResultsError(f"row file {path} cannot be read as Parquet: {error}.") from error
    check_frame(file.table, frame, str(path))
    return frame


def check_frame(table: str, frame: pl.DataFrame, name: str) -> None:
    """Check that a frame has the columns of a table, each of its type and filled where it must be.

    Args:
        table: a name of ``outcomes.ROW_TYPES``.
        frame: the rows.
        name: what to call the frame in a message.

    Raises:
        ResultsError: it has not; the message names the frame and the columns.
    """
    schema, required = schema_of(table), _required(table)
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
            "Write it with editcollapse.tables.frame_of."
        )


@functools.cache
def _required(table: str) -> frozenset[str]:
    """Return the columns that must not be empty: the fields whose type does not include None."""
    hints = typing.get_type_hints(ROW_TYPES[table])
    return frozenset(
        field.name
        for field in dataclasses.fields(ROW_TYPES[table])
        if type(None) not in typing.get_args(hints[field.name])
    )
