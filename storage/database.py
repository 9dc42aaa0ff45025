"""``results.duckdb``: open it to read, or as a draft to write; DuckDB's words in one line.

The file is never written in place. Whoever publishes builds a draft and puts it in its place at
once: readers never wait, and who has the old file open keeps it.
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from editcollapse.errors import ResultsError

SNAPSHOT = Path("results.duckdb")
"""The published database, below the results folder."""
DRAFT = Path("results.duckdb.tmp")
"""What is being built; left by a killed build, replaced by the next one."""

# DuckDB 2.0 writes a file format of its own unless told; the released 1.5 command line reads this.
_FORMAT = "v1.5.0"


@contextmanager
def open_snapshot(results: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open what was last published, read-only; close it after the block.

    The connection can read the snapshot and nothing else: no other file, no Python variable.

    Raises:
        ResultsError: nothing was published yet, the file cannot be opened, or the block asks for a
            table that another version did not build.
    """
    path = results / SNAPSHOT
    if not path.is_file():
        raise ResultsError(
            f"no results in {results} yet: run a study first: "
            f"editcollapse run studies/demo.toml --results {results}"
        )
    # Attached to a fresh instance: DuckDB shares one instance for each path in a process, so that
    # connecting to the path would show the old file for as long as anyone here has it open.
    connection = duckdb.connect(":memory:", config={"python_enable_replacements": False})
    try:
        try:
            connection.execute(f"attach {literal(str(path))} as results (read_only)")
        except duckdb.Error as error:
            raise ResultsError(
                f"cannot open {path} to read: {message_of(error)}. If another program has it open "
                "for writing, close it there (duckdb -readonly does not get in the way); "
                f"otherwise build it again: editcollapse rebuild --results {results}"
            ) from error
        connection.execute("use results")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        yield connection
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise ResultsError(
            f"{path} was built by another version: {message_of(error)}. Build it again from its "
            f"row files: editcollapse rebuild --results {results}"
        ) from error
    finally:
        connection.close()


@contextmanager
def open_draft(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database file to write, in the format that all readers know; made if it is not there.

    After a block that ends well the file is whole on the disk, without a log beside it.

    Raises:
        duckdb.Error: it is no DuckDB file, is damaged, or cannot be written.
    """
    connection = duckdb.connect(path, config={"storage_compatibility_version": _FORMAT})
    try:
        # The database may come from anyone: no view of it reads another file.
        connection.execute("set enable_external_access = false")
        yield connection
        connection.execute("checkpoint")
    finally:
        # After a failed write, closing may fail too; the first error is the one to tell.
        with contextlib.suppress(duckdb.Error):
            connection.close()


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


def replace_database(new: Path, old: Path) -> None:
    """Put a closed database file in the place of another, at once."""
    # A log that was left beside the old file does not fit the new one.
    _log_of(old).unlink(missing_ok=True)
    new.replace(old)


def remove_database(path: Path) -> None:
    """Remove a database file and its log, if they are there."""
    path.unlink(missing_ok=True)
    _log_of(path).unlink(missing_ok=True)


def literal(text: str) -> str:
    """Return a text as an SQL string, for statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def message_of(error: Exception) -> str:
    """Return DuckDB's message in one line: what is wrong, then the line of SQL where it is."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" ^")]
    return " ".join(lines)


def _log_of(path: Path) -> Path:
    """Return where DuckDB keeps the log of a database file."""
    return path.with_name(path.name + ".wal")
