"""Ask the published results: anyone's SQL, what there is to ask, and the queries of the flows."""

from pathlib import Path
from typing import cast

import duckdb
import polars as pl

from editcollapse.errors import ResultsError
from editcollapse.study.anatomy_jobs import CollapseRule
from storage.database import open_snapshot
from storage.transactions import message_of

QUERIES = Path(__file__).parent / "queries"


def ask(results: Path, sql: str) -> pl.DataFrame:
    """Return the answer to a query of the published results; empty for SQL without an answer.

    Nothing can be written: the snapshot is open read-only and no other file can be reached.

    Raises:
        ResultsError: there are no results yet, or DuckDB refuses the query.
    """
    with open_snapshot(results) as connection:
        return _frame(connection, sql)


def incidence(
    results: Path, study_id: str | None = None, rule: CollapseRule | None = None
) -> pl.DataFrame:
    """Return the collapse incidence of one study, or of all.

    Args:
        results: the results folder.
        study_id: of table ``studies``; None for all.
        rule: when an edit counts as a collapse; the default where left out.

    Returns:
        The columns of view ``collapse_incidence``.

    Raises:
        ResultsError: there are no results yet.
    """
    with open_snapshot(results) as connection:
        frame: pl.DataFrame = connection.sql(
            query_text("incidence"),
            params={"study_id": study_id, **(rule or CollapseRule()).model_dump()},
        ).pl()
        return frame


def describe_tables(results: Path) -> pl.DataFrame:
    """Return what can be asked: tables, views and macros, and the columns of each.

    Returns:
        Columns kind (table, view or macro), name, column, type, comment and n_rows. A relation has
        a row of its own, with ``column`` null and for tables ``n_rows``, then one for each column.
        A macro's ``type`` lists its arguments.

    Raises:
        ResultsError: there are no results yet.
    """
    with open_snapshot(results) as connection:
        return describe(connection)


def describe(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Return what ``describe_tables`` does, for an open database."""
    relations: pl.DataFrame = connection.sql(query_text("relations")).pl()
    whole = relations.filter((pl.col("kind") == "table") & pl.col("column").is_null())
    counts = [
        connection.execute(f'select count(*) from "{name}"').fetchall()[0][0]  # noqa: S608 - ours
        for name in whole["name"]
    ]
    sizes = pl.DataFrame(
        {"name": whole["name"], "n_rows": counts},
        schema={"name": pl.String, "n_rows": pl.Int64},
    )
    own = pl.col("column").is_null() & (pl.col("kind") == "table")
    return relations.join(sizes, on="name", how="left", maintain_order="left").with_columns(
        pl.when(own).then("n_rows").alias("n_rows")
    )


def _frame(connection: duckdb.DuckDBPyConnection, sql: str) -> pl.DataFrame:
    """Return a query's answer. Raises ResultsError with DuckDB's own words."""
    try:
        # Procedures change the process (logging to files, checkpoints); one ends it where the file
        # may not be written. Functions are asked with from.
        if any(each.type == duckdb.StatementType.CALL for each in duckdb.extract_statements(sql)):
            raise ResultsError(
                "CALL runs a procedure, and here questions are answered: results are read-only. "
                "Ask with select or from; python -m flows tables lists what can be asked."
            )
        # DuckDB gives None for SQL without an answer, which its type hints do not say.
        relation = cast("duckdb.DuckDBPyRelation | None", connection.sql(sql))
        frame: pl.DataFrame = pl.DataFrame() if relation is None else relation.pl()
    except duckdb.Error as error:
        raise ResultsError(
            f"DuckDB refuses this query: {message_of(error)}\n"
            "python -m flows tables lists what can be asked; results are read-only."
        ) from error
    except pl.exceptions.PolarsError as error:
        raise ResultsError(
            f"the answer has a column of a type that has no place in a frame: {error}. "
            "Cast it in the query, for instance to varchar."
        ) from error
    return frame


def query_text(name: str) -> str:
    """Return the SQL of a named query."""
    return (QUERIES / f"{name}.sql").read_text(encoding="utf-8")
