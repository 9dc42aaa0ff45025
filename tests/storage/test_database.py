"""Two files: one writer for the store, any number of readers for the snapshot."""

import subprocess
import sys
from pathlib import Path

import duckdb
import filelock
import pytest

from editcollapse.errors import ResultsError
from storage import database
from storage.database import (
    SNAPSHOT,
    STORE,
    StoreBusyError,
    open_snapshot,
    open_store,
    publish_snapshot,
)
from storage.queries import ask

_ROOT = Path(__file__).parents[2]


def _count(connection, table="models"):
    """Return how many rows a table has."""
    return connection.sql(f"select count(*) from {table}").fetchall()[0][0]  # noqa: S608


def _in_another_process(code):
    """Run Python code in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_snapshot_has_rows_comments_views_and_macros(folder, make_row):
    """What is published answers every kind of question, under any file name."""
    folder.add("models", make_row("models"))
    path = publish_snapshot(folder.results)
    assert path == folder.results / SNAPSHOT
    copy = folder.results / "another name.duckdb"
    copy.write_bytes(path.read_bytes())
    with duckdb.connect(copy, read_only=True) as connection:
        assert _count(connection) == 1
        for relation in (
            "collapse_incidence",
            "collapse_incidence(threshold := 5)",
            "denominators",
        ):
            assert connection.sql(f"from {relation}").fetchall() == []
        assert connection.sql("select collapsed(1e9, 1, 1000, 10)").fetchall() == [(True,)]
        bare = connection.sql(
            "select column_name from duckdb_columns() where not internal and comment is null"
        )
        assert bare.fetchall() == []


def test_views_work_through_attach(folder):
    """A user who attaches the file under a name of his own can ask the views."""
    folder.add_study()
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"attach '{folder.results / SNAPSHOT}' as mine (read_only)")
        found = connection.sql("select n_edits from mine.collapse_incidence").fetchall()
        assert found == [(1,), (1,)]
        connection.execute("use mine")
        found = connection.sql("select n_edits from collapse_incidence(ratio := 2)").fetchall()
        assert found == [(1,), (1,)]


def test_publishing_leaves_one_file(folder):
    """Neither the temporary copy nor a log stays beside the snapshot."""
    publish_snapshot(folder.results)
    publish_snapshot(folder.results)
    assert sorted(path.name for path in folder.results.iterdir()) == ["results.duckdb", "store"]


def test_reader_does_not_hinder_publishing(folder, make_row):
    """Who has the snapshot open keeps what it showed; who opens it afterwards sees the new rows."""
    folder.add("models", make_row("models"))
    publish_snapshot(folder.results)
    plain = duckdb.connect(folder.results / SNAPSHOT, read_only=True)
    with open_snapshot(folder.results) as reader, plain:
        assert _count(reader) == 1
        folder.add("models", make_row("models", model_id="b"))
        publish_snapshot(folder.results)
        assert (_count(reader), _count(plain)) == (1, 1)
        with open_snapshot(folder.results) as later:
            assert _count(later) == 2


def test_log_of_a_writing_user_is_not_replayed_into_the_new_snapshot(folder, make_row):
    """A log left beside the snapshot by someone who wrote into it does no harm to the next one."""
    publish_snapshot(folder.results)
    (folder.results / "results.duckdb.wal").write_bytes(b"left over")
    folder.add("models", make_row("models"))
    publish_snapshot(folder.results)
    assert ask(folder.results, "select count(*) from models").item() == 1


def test_another_process_reads_while_the_store_is_written(folder, make_row):
    """The snapshot can be read from a second process in the middle of a write to the store."""
    folder.add("models", make_row("models"))
    publish_snapshot(folder.results)
    code = (
        "from pathlib import Path; from storage.queries import describe_tables; "
        f"print(describe_tables(Path({str(folder.results)!r})).filter(name='models')['n_rows'][0])"
    )
    with open_store(folder.results) as connection:
        connection.execute("begin transaction")
        connection.execute("delete from models")
        assert _in_another_process(code) == "1"
        connection.execute("rollback")


def test_second_writer_is_told_who_holds_the_store(folder):
    """A writer that waited in vain learns the process and what to do."""
    code = (
        "from pathlib import Path; from storage.database import StoreBusyError, publish_snapshot\n"
        f"try: publish_snapshot(Path({str(folder.results)!r}), wait_s=0.1)\n"
        "except StoreBusyError as error: print(error)"
    )
    with open_store(folder.results):
        message = _in_another_process(code)
    assert "is being written by another process (PID " in message
    assert "waited 0.1 s). Wait for it or end it. To read, open" in message


def test_lock_without_a_note_is_told_too(folder):
    """A holder that left no note is called unknown."""
    lock = filelock.FileLock((folder.results / STORE).with_suffix(".lock"))
    with lock, pytest.raises(StoreBusyError, match=r"\(unknown; waited 0 s\)"):
        publish_snapshot(folder.results, wait_s=0)


def test_program_that_does_not_know_our_lock_is_named(folder):
    """The command line with the store open is reported with DuckDB's words, after the wait."""
    publish_snapshot(folder.results)
    code = (
        f"import duckdb, sys; held = duckdb.connect({str(folder.results / STORE)!r}); "
        "print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"1\n"
        with pytest.raises(StoreBusyError, match=rf"open in another program.*PID {holder.pid}"):
            publish_snapshot(folder.results, wait_s=0.3)


def test_damaged_store_says_how_to_mend_it(folder):
    """A store that is no DuckDB file points to the row files."""
    (folder.results / STORE).write_bytes(b"no database" * 1000)
    with pytest.raises(ResultsError, match=r"cannot open .* with python -m flows rebuild"):
        publish_snapshot(folder.results)


def test_damaged_snapshot_says_so(folder):
    """A snapshot that is no DuckDB file is a ResultsError, not a traceback."""
    (folder.results / SNAPSHOT).write_bytes(b"no database" * 1000)
    with pytest.raises(ResultsError, match=r"cannot open .* to read"):
        ask(folder.results, "select 1")


def test_failed_publication_keeps_the_old_snapshot(folder, make_row, monkeypatch):
    """If the copy cannot take its place, readers keep what they had and no draft stays."""
    publish_snapshot(folder.results)
    folder.add("models", make_row("models"))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(database.Path, "replace", refuse)
    with pytest.raises(ResultsError, match=r"could not publish .*Permission denied"):
        publish_snapshot(folder.results)
    assert ask(folder.results, "select count(*) from models").item() == 0
    assert not list(folder.results.glob("*.tmp*"))


def test_results_folder_that_cannot_be_made(tmp_path):
    """A file where the folder should be is explained."""
    (tmp_path / "results").write_text("a file")
    with pytest.raises(ResultsError, match=r"cannot make the results folder .*--results DIR"):
        publish_snapshot(tmp_path / "results")


def test_path_with_a_quote_works(tmp_path):
    """A folder's name is never part of the SQL."""
    results = tmp_path / "it's"
    publish_snapshot(results)
    assert ask(results, "select count(*) from models").item() == 0


def test_file_format_is_the_one_released_readers_know(folder):
    """Both files are in the storage format of DuckDB 1.5."""
    publish_snapshot(folder.results)
    for path in (folder.results / SNAPSHOT, folder.results / STORE):
        with duckdb.connect(path, read_only=True) as connection:
            ((tags,),) = connection.sql(
                "select tags from duckdb_databases() where database_name = current_database()"
            ).fetchall()
        assert "v1.5.0" in str(tags)
