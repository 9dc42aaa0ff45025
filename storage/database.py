"""Open the store to write, publish it for readers, open what was published.

Two files. The store, ``<results>/store/editcollapse.duckdb``, has one writer at a time. Readers get
``<results>/results.duckdb``, a whole copy that is replaced at once: they never wait for a study and
a study never waits for them; who has the old copy open keeps it.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import filelock

from editcollapse.errors import ResultsError
from storage.migrate import migrate
from storage.transactions import literal, message_of, transaction

STORE = Path("store") / "editcollapse.duckdb"
SNAPSHOT = Path("results.duckdb")
NEW = ".new.duckdb"
REBUILT = ".rebuild.duckdb"
"""Suffixes of stores that are being made."""
WAIT_S = 60.0
"""How long a writer waits for another, in seconds."""

_MEASURED = Path(__file__).parent / "queries" / "measured_edits.sql"
# DuckDB 2.0 writes a file format of its own unless told; the released 1.5 command line reads this.
_FORMAT = "v1.5.0"
_RETRY_S = 0.2
_OF_THE_DISK = ("No space left on device", "Read-only file system", "Permission denied")
"""What DuckDB says of a file that it cannot write; the file itself may be well."""


class StoreBusyError(ResultsError):
    """Another process holds the file; waiting did not help."""

    may_pass = True


@contextmanager
def open_store(results: Path, *, wait_s: float = WAIT_S) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the store for writing, alone and with this version's schema; close it after the block.

    Args:
        results: the results folder; made if it is not there.
        wait_s: how long to wait for another process that writes, in seconds.

    Raises:
        StoreBusyError: another process holds the store for longer.
        ResultsError: the store cannot be read, or is of another version.
    """
    with hold_store(results, wait_s=wait_s) as store:
        if not store.is_file():
            _make_store(store)
        connection = connect(store, wait_s=wait_s)
        try:
            try:
                migrate(connection)
            except duckdb.Error as error:
                raise ResultsError(
                    f"cannot bring {store} to this version's schema: {message_of(error)}. It is as "
                    "it was. Free space, or make it again: python -m flows rebuild"
                ) from error
            yield connection
        finally:
            connection.close()


def publish_snapshot(results: Path, *, wait_s: float = WAIT_S) -> Path:
    """Make ``results.duckdb`` a copy of the store as it is now, and return its path.

    Raises:
        StoreBusyError: another process holds the store for longer than ``wait_s`` seconds.
        ResultsError: the store cannot be read or copied; the old snapshot then stays.
    """
    with open_store(results, wait_s=wait_s) as connection:
        return publish_from(connection, results)


@contextmanager
def open_snapshot(results: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open what was last published, read-only; close it after the block.

    The connection can read the snapshot and nothing else: no other file, no Python variable.

    Raises:
        ResultsError: nothing was published yet, or the file cannot be opened.
    """
    path = results / SNAPSHOT
    if not path.is_file():
        raise ResultsError(
            f"no results in {results} yet: run a study first: "
            f"python -m flows run studies/demo.toml --results {results}"
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
                "otherwise publish it again by running the study."
            ) from error
        connection.execute("use results")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        yield connection
    finally:
        connection.close()


@contextmanager
def hold_store(results: Path, *, wait_s: float = WAIT_S) -> Iterator[Path]:
    """Hold the store's lock for the block and give the store's path; the store stays closed.

    Raises:
        StoreBusyError: another process holds it for longer than ``wait_s`` seconds.
        ResultsError: the folder cannot be made.
    """
    store = results / STORE
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(
            f"cannot make the results folder {store.parent}: {error.strerror}. "
            "Give a folder that can be written: --results DIR."
        ) from error
    note = store.with_suffix(".lock.txt")
    lock = filelock.FileLock(store.with_suffix(".lock"))
    try:
        lock.acquire(timeout=wait_s)
    except filelock.Timeout as error:
        holder = note.read_text(encoding="utf-8") if note.is_file() else "unknown"
        raise StoreBusyError(
            f"{store} is being written by another process ({holder}; waited {wait_s:g} s). "
            f"Wait for it or end it. To read, open {results / SNAPSHOT}: it never waits."
        ) from error
    except OSError as error:
        raise ResultsError(
            f"cannot write to {store.parent}: {error.strerror or error}. Free space or choose "
            f"another folder with --results. To read, open {results / SNAPSHOT}."
        ) from error
    try:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with contextlib.suppress(OSError):  # on a full disk others are told of an unknown holder
            note.write_text(f"PID {os.getpid()} on {socket.gethostname()} since {now}", "utf-8")
        yield store
    finally:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def connect(path: Path, *, wait_s: float = WAIT_S) -> duckdb.DuckDBPyConnection:
    """Return a writing connection to a database file in the format that all readers know.

    Raises:
        StoreBusyError: a program that does not know our lock has the file open for longer.
        ResultsError: it is no DuckDB file, or damaged.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return duckdb.connect(path, config={"storage_compatibility_version": _FORMAT})
        except duckdb.Error as error:
            if any(reason in str(error) for reason in _OF_THE_DISK):
                raise ResultsError(
                    f"cannot write {path}: {message_of(error).rstrip('.!')}. Free space, or choose "
                    "another folder with --results; finished work is kept."
                ) from error
            if "Could not set lock" not in str(error):
                raise ResultsError(
                    f"cannot open {path}: {message_of(error).rstrip('.!')}. Its rows are safe in "
                    "their files: make it again with python -m flows rebuild."
                ) from error
            if time.monotonic() > deadline:
                raise StoreBusyError(
                    f"{path} is open in another program (waited {wait_s:g} s): "
                    f"{message_of(error)}. Close it there; to read, open {SNAPSHOT} instead."
                ) from error
        time.sleep(_RETRY_S)


def _make_store(store: Path) -> None:
    """Make a store with its tables and no rows, whole or not at all.

    DuckDB's own beginning is not: on a full disk it leaves a file that it cannot open again.
    """
    draft = store.with_suffix(NEW)
    remove_database(draft)
    try:
        connection = connect(draft, wait_s=0)
        try:
            migrate(connection)
            connection.execute("checkpoint")
        finally:
            connection.close()
        replace_database(draft, store)
    except (duckdb.Error, OSError) as error:
        raise ResultsError(
            f"cannot make {store}: {message_of(error)}. Free space, or choose another folder with "
            "--results; finished work is kept."
        ) from error
    finally:
        remove_database(draft)


def publish_from(connection: duckdb.DuckDBPyConnection, results: Path) -> Path:
    """Fill ``measured_edits``, copy an open store, and put the copy in the snapshot's place.

    Raises:
        ResultsError: the copy cannot be written; the old snapshot then stays.
    """
    snapshot = results / SNAPSHOT
    copy = snapshot.with_suffix(".duckdb.tmp")
    remove_database(copy)
    try:
        with transaction(connection):
            connection.execute("delete from measured_edits")
            connection.execute(_MEASURED.read_text(encoding="utf-8"))
        (name,) = connection.execute("select current_database()").fetchall()[0]
        connection.execute(f"attach {literal(str(copy))} as snapshot (storage_version '{_FORMAT}')")
        try:
            connection.execute(f'copy from database "{name}" to snapshot')
            connection.execute("checkpoint snapshot")
        finally:
            connection.execute("detach snapshot")
        replace_database(copy, snapshot)
    except (duckdb.Error, OSError) as error:
        remove_database(copy)
        raise ResultsError(
            f"could not publish {snapshot}: {message_of(error)}. The store has all rows; "
            "mend the cause and run the study again to publish them."
        ) from error
    return snapshot


def replace_database(new: Path, old: Path) -> None:
    """Put a closed database file in the place of another, at once."""
    # A log that was left beside the old file does not fit the new one.
    _log_of(old).unlink(missing_ok=True)
    new.replace(old)


def remove_database(path: Path) -> None:
    """Remove a database file and its log, if they are there."""
    path.unlink(missing_ok=True)
    _log_of(path).unlink(missing_ok=True)


def _log_of(path: Path) -> Path:
    """Return where DuckDB keeps the log of a database file."""
    return path.with_name(path.name + ".wal")
