"""A study's rows as a folder of Parquet files, one a table: what the Hugging Face hub shows.

Of each table the rows that belong to the study, as last published, and the views that put them
together, by the default rule of collapse. Whatever reads Parquet reads them.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl

from editcollapse.errors import ResultsError
from editcollapse.rows.study import NATURAL_KEYS
from storage.ask import describe, query_text
from storage.database import open_snapshot

FILE = "rows.parquet"
"""Name of the file in each table's folder."""
VIEWS = (
    "edit_outcomes",
    "collapse_incidence",
    "guard_outcomes",
    "sequence_outcomes",
    "generation_outcomes",
)
"""Views that go with the tables; the first is what a reader wants first."""
_NOT_OF_A_STUDY = (
    *("provenance", "tuning_facts", "tuning_trials"),
    *("checks", "check_names", "check_tensors", "check_scores"),
)
"""Tables that name machines, or belong to no study."""
_NOT_FOR_OTHERS = {"judges": "url"}
"""A column that names a machine, by table; left out."""
_BY_THEMSELVES = ("study_id", "anatomy_id")
"""Ids of which one decides whether a row belongs to a study, whatever other ids it has."""

_IDS = (
    *_BY_THEMSELVES,
    "edit_id",
    "sequence_id",
    "calibration_id",
    "model_id",
    "dataset_id",
    "request_id",
    "evaluation_id",
    "template_set_id",
    "covariance_id",
    "settings_id",
    "generation_id",
    "judge_id",
)
"""Ids that query ``study_keys`` gives; a row is a study's where all that it has are there."""


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetColumn:
    """A column of a table."""

    name: str
    type: str
    """As DuckDB writes it."""
    comment: str


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetTable:
    """A table that was written."""

    name: str
    comment: str
    n_rows: int
    columns: tuple[DatasetColumn, ...]

    @property
    def path(self) -> str:
        """Its file, below the dataset's folder."""
        return f"{self.name}/{FILE}"


def write_dataset(results: Path, study_id: str, folder: Path) -> tuple[DatasetTable, ...]:
    """Write a study's rows, a Parquet file a table; tables without rows are left out.

    Tables ``provenance``, which names machines, and those of tunings are left out as well.

    Args:
        results: the results folder.
        study_id: an id of table ``studies``.
        folder: written to; files that are there already are replaced.

    Returns:
        What was written, views first.

    Raises:
        ResultsError: there are no results yet, they do not hold this study, or the folder cannot
            be written.
    """
    with open_snapshot(results) as connection:
        connection.execute(query_text("study_keys"), {"study_id": study_id})
        described = describe(connection)
        written = []
        for name, frame in _frames(connection, study_id):
            if frame.is_empty():
                continue
            _write(frame, folder / name / FILE)
            written.append(_table(name, described, frame.height))
    if not any(table.name == "studies" for table in written):
        raise ResultsError(
            f"{results} holds no study with the id {study_id}. "
            'editcollapse sql "from studies" lists them.'
        )
    return tuple(written)


def _frames(
    connection: duckdb.DuckDBPyConnection, study_id: str
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each view and table with the rows of the study, in the order of their keys."""
    for view in VIEWS:
        text = f"from {view} where study_id = $study_id order by all"
        yield view, connection.sql(text, params={"study_id": study_id}).pl()
    for table, keys in NATURAL_KEYS.items():
        if table in _NOT_OF_A_STUDY:
            continue
        columns = [row[0] for row in connection.sql(f"describe {table}").fetchall()]
        ids = [column for column in columns if column in _IDS]
        assert ids, f"{table} has no id of query study_keys: name it there, or leave it out"
        alone = next((each for each in _BY_THEMSELVES if each in ids), None)
        asked = " and ".join(
            f"({each} is null or {each} in (select id from study_keys where name = '{each}'))"  # noqa: S608  ours
            for each in (ids if alone is None else [alone])
        )
        text = f"from {table} where {asked} order by {', '.join(keys)}"
        frame: pl.DataFrame = connection.sql(text).pl()
        yield table, frame.drop(_NOT_FOR_OTHERS.get(table, ()))


def _write(frame: pl.DataFrame, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path)
    except (OSError, pl.exceptions.ComputeError) as error:
        raise ResultsError(
            f"cannot write {path}: {getattr(error, 'strerror', None) or error}. Free space or "
            "choose another folder."
        ) from error


def _table(name: str, described: pl.DataFrame, n_rows: int) -> DatasetTable:
    """Return what the database says of a table."""
    rows = described.filter((pl.col("name") == name) & (pl.col("kind") != "macro"))
    (comment,) = rows.filter(rows["column"].is_null())["comment"].to_list()
    columns = rows.filter(
        rows["column"].is_not_null() & rows["column"].ne_missing(_NOT_FOR_OTHERS.get(name, ""))
    )
    return DatasetTable(
        name=name,
        comment=comment or "",
        n_rows=n_rows,
        columns=tuple(
            DatasetColumn(row["column"], row["type"], row["comment"] or "")
            for row in columns.iter_rows(named=True)
        ),
    )
