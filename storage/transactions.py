"""All or nothing: one block of statements, committed whole or rolled back whole."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block does; roll it back if the block raises, whatever it raises."""
    connection.execute("begin transaction")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


def literal(text: str) -> str:
    """Return a text as an SQL string, for statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def message_of(error: Exception) -> str:
    """Return DuckDB's message in one line: what is wrong, then the line of SQL where it is."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" ^")]
    return " ".join(lines)
