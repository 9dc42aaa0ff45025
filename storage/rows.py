"""Row files: Parquet files of one table's rows, named by the digest of their bytes."""

import dataclasses
import functools
import io
import os
import re
import typing
from pathlib import Path

import polars as pl

from editcollapse.errors import ArtifactError, ResultsError, nearest_first
from editcollapse.fingerprints import DIGEST_BYTES, digest_file
from editcollapse.rows.frames import schema_of
from editcollapse.rows.study import ROW_TYPES

ROWS_FOLDER = Path("artifacts") / "rows"
"""Where row files live in a results folder: ``<table>/<digest>.parquet``."""
MAX_ROWS = 5_000_000
"""Rows of one file: a whole dataset's requests are one, and the largest has a hundredth of that."""
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
                f"row file {path} claims {n_rows} rows; a unit of work leaves {MAX_ROWS} at most. "
                "It was not written with editcollapse; remove it."
            )
        frame = lazy.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ResultsError(f"row file {path} cannot be read as Parquet: {error}.") from error
    added = [
        pl.lit(None, dtype).alias(name)
        for name, dtype in schema_of(file.table).items()
        if name not in frame.columns and name not in _required(file.table)
    ]
    frame = frame.with_columns(added)
    check_frame(file.table, frame, str(path))
    return frame


def check_frame(table: str, frame: pl.DataFrame, name: str) -> None:
    """Check that a frame has the columns of a table, each of its type and filled where it must be.

    Args:
        table: a name of ``study.ROW_TYPES``.
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
def _required(table: str) -> frozenset[str]:
    """Return the columns that must not be empty: the fields whose type does not include None."""
    hints = typing.get_type_hints(ROW_TYPES[table])
    return frozenset(
        field.name
        for field in dataclasses.fields(ROW_TYPES[table])
        if type(None) not in typing.get_args(hints[field.name])
    )
