"""The store from row files alone: equal to the original, honest about what is missing."""

from pathlib import Path

import duckdb
import pytest

from editcollapse.errors import ResultsError
from editcollapse.rows.study import ROW_TYPES
from storage import rebuild as module
from storage.database import SNAPSHOT, STORE, open_store
from storage.queries import ask
from storage.rebuild import rebuild
from storage.rows import RowsFile, find_row_files


def _tables(folder):
    """Return every row table of the store, sorted, as text that keeps inf and nan."""
    with open_store(folder.results) as connection:
        return {
            table: connection.sql(f"from {table} order by all").pl().rows() for table in ROW_TYPES
        }


def test_rebuilt_tables_equal_the_originals(folder, make_row):
    """Every table comes back as it was, also where a row had been recorded twice."""
    folder.add_study(perplexities=(5.0, float("inf"), 7.0))
    for table in ROW_TYPES:
        folder.add(table, make_row(table))
    for name in ("a", "b", "c", "d"):
        folder.add("models", make_row("models", source=name))
    before = _tables(folder)
    report = rebuild(folder.results)
    assert report.skipped == ()
    assert report.n_files == len(find_row_files(folder.results)) > len(ROW_TYPES)
    assert _tables(folder) == before
    assert before["models"][0][1] == "d"


def test_rebuilt_twice_from_nothing_is_the_same(folder):
    """Without an old store the order is that of the names, and the result is the same again."""
    folder.add_study()
    before = _tables(folder)
    for _ in range(2):
        (folder.results / STORE).unlink()
        rebuild(folder.results)
        assert _tables(folder) == before


def test_rebuild_of_a_folder_given_relative(folder, monkeypatch):
    """``--results results`` from the folder above finds the same files."""
    folder.add_study()
    monkeypatch.chdir(folder.results.parent)
    report = rebuild(Path(folder.results.name))
    assert (report.n_files, report.skipped) == (12, ())


def test_without_a_store_the_snapshot_gives_the_order(folder, make_row):
    """Of two rows with one key the later one counts, though its digest sorts before the other."""
    for name in ("a", "b", "c", "d"):
        folder.add("models", make_row("models", source=name))
    folder.publish()
    (folder.results / STORE).unlink()
    rebuild(folder.results)
    assert ask(folder.results, "select source from models").rows() == [("d",)]


def test_rebuild_publishes(folder):
    """Readers see the rebuilt rows at once, and no draft stays."""
    folder.add_study()
    (folder.results / SNAPSHOT).unlink()
    rebuild(folder.results)
    assert ask(folder.results, "select count(*) from edit_outcomes").item() == 2
    names = {path.name for path in (folder.results / "store").iterdir()}
    assert names <= {"editcollapse.duckdb", "editcollapse.lock"}


def test_damaged_store_is_replaced(folder):
    """A store that DuckDB cannot open is no hindrance."""
    folder.add_study()
    before = _tables(folder)
    (folder.results / STORE).write_bytes(b"no database" * 1000)
    assert rebuild(folder.results).skipped == ()
    assert _tables(folder) == before


def test_store_without_a_ledger_is_replaced(folder):
    """A database of another kind in the store's place is no hindrance either."""
    folder.add_study()
    (folder.results / STORE).unlink()
    with duckdb.connect(folder.results / STORE) as connection:
        connection.execute("create table other (a int)")
    assert rebuild(folder.results).n_files == 12


def test_corrupted_row_file_is_reported_by_name(folder, make_row):
    """A file whose bytes changed is left out, and the report says which and why."""
    folder.add("models", make_row("models"))
    bad = folder.add("models", make_row("models", model_id="b"))
    path = folder.results / bad.path
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    report = rebuild(folder.results)
    assert (report.n_files, report.n_rows) == (1, 1)
    (skipped,) = report.skipped
    assert skipped.path == path
    assert "should have digest" in skipped.reason
    assert ask(folder.results, "select model_id from models").rows() == [("model-1",)]


def test_row_file_that_is_gone_is_reported_by_name(folder, make_row):
    """A file that the old store had taken in and that is gone is not passed over."""
    gone = folder.add("models", make_row("models"))
    (folder.results / gone.path).unlink()
    (skipped,) = rebuild(folder.results).skipped
    assert skipped.path == folder.results / gone.path
    assert "is missing" in skipped.reason


def test_given_files_are_used(folder, make_row):
    """The caller may name the files; names of tables that do not exist are reported."""
    good = folder.write("models", make_row("models"))
    report = rebuild(folder.results, [good, RowsFile("nothing", good.path, good.digest)])
    assert (report.n_files, len(report.skipped)) == (1, 1)


def test_given_files_are_used_alone(folder, make_row):
    """Files that the old store had and the caller does not name are left out."""
    kept = folder.add("models", make_row("models"))
    folder.add("models", make_row("models", model_id="b"))
    assert rebuild(folder.results, [kept]).n_rows == 1
    assert ask(folder.results, "select model_id from models").rows() == [("model-1",)]


def test_failed_rebuild_keeps_the_old_store(folder, make_row, monkeypatch):
    """The old store is only replaced by a whole new one."""
    folder.add("models", make_row("models"))
    before = _tables(folder)

    def refuse(*_):
        raise ResultsError("disk full")

    monkeypatch.setattr(module, "write_frames", refuse)
    with pytest.raises(ResultsError, match="disk full"):
        rebuild(folder.results)
    assert _tables(folder) == before
