"""Row files become ``results.duckdb``: once each, whole or not at all, the last word wins."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import polars as pl
import pytest

from editcollapse.errors import ResultsError
from editcollapse.rows.frames import frame_of, rows_of, schema_of
from editcollapse.rows.study import NATURAL_KEYS, ROW_TYPES
from editcollapse.study.results_folder import results_at
from storage import ingest as ingest_module
from storage import publish as module
from storage.ask import ask, ask_each
from storage.database import SNAPSHOT, open_snapshot
from storage.ingest import RowsFile, find_row_files
from storage.publish import publish, rebuild, snapshot_is_current
from tests.storage.conftest import Folder

_ROOT = Path(__file__).parents[2]


def _table(folder, table):
    """Return a published table as a frame with its schema's column order."""
    names = ", ".join(schema_of(table))
    return ask(folder.results, f"select {names} from {table} order by all")  # noqa: S608 - ours


def _tables(folder):
    """Return every row table, sorted."""
    queries = (
        f"select {', '.join(schema_of(table))} from {table} order by all"  # noqa: S608 - ours
        for table in ROW_TYPES
    )
    answers = ask_each(folder.results, "; ".join(queries))
    return {table: answer.frame.rows() for table, answer in zip(ROW_TYPES, answers, strict=True)}


def _count(connection, table="models"):
    return connection.sql(f"select count(*) from {table}").fetchall()[0][0]  # noqa: S608


@pytest.fixture
def sources(folder, make_row):
    """Return a folder with four rows of one key, published one after the other."""
    for name in ("a", "b", "c", "d"):
        folder.write("models", make_row("models", source=name))
        folder.publish()
    return folder


def test_rows_come_back_as_they_were(folder, make_row):
    """A row of each table, with its optional fields empty, survives the way through DuckDB."""
    for table in ROW_TYPES:
        folder.write(table, make_row(table))
    assert folder.publish().n_files == len(ROW_TYPES)
    for table in ROW_TYPES:
        assert rows_of(table, _table(folder, table)) == [make_row(table)]


def test_inf_and_nan_are_kept(folder, make_row):
    """Non-finite numbers are measurements: stored as such, not as NULL."""
    folder.write(
        "base_perplexities", make_row("base_perplexities", perplexity=math.inf, nll_mean=math.nan)
    )
    folder.publish()
    (row,) = rows_of("base_perplexities", _table(folder, "base_perplexities"))
    assert row.perplexity == math.inf
    assert math.isnan(row.nll_mean)


def test_same_file_twice_counts_once(folder, make_row):
    """A file that is published is passed over, and nothing is written for it."""
    folder.write("models", make_row("models"))
    assert folder.publish().n_rows == 1
    before = (folder.results / SNAPSHOT).stat()
    assert folder.publish().n_files == 0
    assert (folder.results / SNAPSHOT).stat().st_ino == before.st_ino


@pytest.mark.parametrize("at_once", [True, False])
def test_same_key_again_replaces_the_row(folder, make_row, at_once):
    """Of two rows with one key the later file's counts, in one build or in two."""
    folder.write("models", make_row("models", source="1"), make_row("models", model_id="b"))
    if not at_once:
        folder.publish()
    folder.write("models", make_row("models", source="2"), make_row("models", source="3"))
    folder.publish()
    assert _table(folder, "models").select("model_id", "source").rows() == [
        ("b", "x"),
        ("model-1", "3"),
    ]


@pytest.mark.parametrize("files_at_once", [1, 2, 500])
def test_every_key_stands_once(folder, make_row, monkeypatch, files_at_once):
    """Whatever the groups in which files are read, each table has one row a key: the last one."""
    monkeypatch.setattr(ingest_module, "FILES_AT_ONCE", files_at_once)
    for table in ROW_TYPES:
        folder.write(table, make_row(table))
    for name in ("a", "b", "c", "d"):
        folder.write("models", make_row("models", source=name))
    folder.publish()
    queries = (
        f"select count(*), count(distinct ({', '.join(keys)})) from {table}"  # noqa: S608
        for table, keys in NATURAL_KEYS.items()
    )
    answers = ask_each(folder.results, "; ".join(queries))
    assert [answer.frame.rows() for answer in answers] == [[(1, 1)]] * len(NATURAL_KEYS)
    assert _table(folder, "models")["source"].to_list() == ["d"]


def test_many_small_files_make_one_table(folder, make_row):
    """Several hundred files of one row each end up as so many rows."""
    rows = [make_row("study_edits", edit_id=f"edit-{index:03}") for index in range(300)]
    for row in rows:
        folder.write("study_edits", row)
    folder.publish()
    expected = frame_of("study_edits", rows).sort(pl.all())
    assert _table(folder, "study_edits").equals(expected)


def test_what_counting_needs_is_what_edits_came_to(folder):
    """Table measured_edits is view edit_outcomes, without what counting does not need."""
    folder.add_study(perplexities=(5.0, None, math.inf))
    names = "study, study_id, model, method, dataset, subject_position, perplexity"
    asked = f"select {names}, perplexity_before"
    found = ask(folder.results, f"{asked} from measured_edits")
    expected = ask(folder.results, f"{asked} from edit_outcomes where perplexity is not null")
    assert found.height == 4
    assert sorted(found.rows()) == sorted(expected.rows())


def test_snapshot_behind_the_row_files_is_not_current(folder, make_row):
    """A database that was published while a study ran has to be published again at its end."""
    results_folder = results_at(folder.results)
    assert snapshot_is_current(results_folder)
    folder.write("models", make_row("models"))
    assert not snapshot_is_current(results_folder)
    folder.publish()
    assert snapshot_is_current(results_folder)


@pytest.mark.slow
def test_step_by_step_is_the_same_as_all_at_once(sources, make_row):
    """Built file by file, or anew from all of them: equal tables, the last row in each."""
    sources.add_study(perplexities=(5.0, math.inf, 7.0))
    for table in ROW_TYPES:
        sources.write(table, make_row(table, **({"source": "e"} if table == "models" else {})))
        sources.publish()
    before = _tables(sources)
    report = sources.rebuild()
    assert report.skipped == ()
    assert report.n_files == len(find_row_files(sources.results))
    assert _tables(sources) == before
    (sources.results / SNAPSHOT).unlink()
    assert sources.publish().n_files == report.n_files
    assert _tables(sources) == before


def test_rebuild_follows_the_job_of_what_is_published(sources):
    """What was published later counts, also where times of files are lost."""
    for path in (sources.results / "artifacts/rows/models").iterdir():
        os.utime(path, (0, 0))
    sources.rebuild()
    assert ask(sources.results, "select source from models").rows() == [("d",)]


@pytest.mark.parametrize("damage", ["no database", "another database", "older schema", "torn"])
def test_database_that_cannot_be_built_on_is_built_anew(sources, make_row, damage):
    """Whatever stands in its place, publishing ends with the tables of the row files."""
    before = _tables(sources)
    path = sources.results / SNAPSHOT
    edits = []
    if damage == "no database":
        path.write_bytes(b"no database" * 1000)
    elif damage == "another database":
        path.unlink()
        with duckdb.connect(path) as connection:
            connection.execute("create table row_files (a int)")
    else:
        with duckdb.connect(path) as connection:
            change = "update schema_version set digest = 'old'"
            connection.execute(change if damage == "older schema" else "drop table edits")
    if damage == "torn":
        sources.write("edits", make_row("edits"))
        edits = frame_of("edits", [make_row("edits")]).rows()
    assert not snapshot_is_current(results_at(sources.results))
    sources.publish()
    assert _tables(sources) == before | {"edits": edits}


def test_damaged_row_file_is_left_out_by_name_until_it_is_mended(folder, make_row):
    """A file whose bytes changed never becomes rows; written again, it does."""
    folder.write("models", make_row("models"))
    bad = folder.write("models", make_row("models", model_id="b"))
    path = folder.results / bad.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"!")
    (skipped,) = folder.publish().skipped
    assert skipped.path == path
    assert "should have digest" in skipped.reason
    assert ask(folder.results, "select model_id from models").rows() == [("model-1",)]
    path.write_bytes(whole)
    assert folder.publish().skipped == ()
    assert ask(folder.results, "select count(*) from models").item() == 2


def test_foreign_files_are_left_out(folder, make_row):
    """A folder of no table, and a file that is not of its table, are told and passed over."""
    good = folder.write("models", make_row("models"))
    for table in ("nothing", "edits"):
        target = folder.results / "artifacts/rows" / table / f"{good.digest}.parquet"
        target.parent.mkdir()
        target.write_bytes((folder.results / good.path).read_bytes())
    report = folder.publish()
    assert report.n_files == 1
    reasons = " ".join(skipped.reason for skipped in report.skipped)
    assert "is for table 'nothing', which there is not" in reasons
    assert "does not hold rows of table edits" in reasons


def test_row_file_that_is_gone_is_reported_by_name(folder, make_row):
    """A file that was published and is gone is not passed over by a rebuild."""
    gone = folder.write("models", make_row("models"))
    folder.publish()
    (folder.results / gone.path).unlink()
    (skipped,) = folder.rebuild().skipped
    assert skipped.path == folder.results / gone.path
    assert "is missing" in skipped.reason


def test_given_files_are_used_alone(folder, make_row):
    """The caller may name the files; names of tables that do not exist are reported."""
    kept = folder.write("models", make_row("models"))
    folder.write("models", make_row("models", model_id="b"))
    folder.publish()
    report = folder.rebuild([kept, RowsFile("nothing", kept.path, kept.digest)])
    assert (report.n_rows, len(report.skipped)) == (1, 1)
    assert ask(folder.results, "select model_id from models").rows() == [("model-1",)]


def test_folder_given_relative(folder, monkeypatch):
    """``--results results`` from the folder above finds the same files."""
    folder.add_study()
    monkeypatch.chdir(folder.results.parent)
    assert rebuild(results_at(folder.results.name)).n_files == 12


def test_snapshot_has_comments_views_and_macros_under_any_name(folder):
    """What is published answers every kind of question, copied or attached by a user."""
    folder.add_study()
    copy = folder.results / "another name.duckdb"
    copy.write_bytes((folder.results / SNAPSHOT).read_bytes())
    with duckdb.connect(copy, read_only=True) as connection:
        for relation in ("collapse_incidence", "collapse_incidence(threshold := 5)", "compare"):
            assert connection.sql(f"from {relation}").fetchall()
        assert connection.sql("select collapsed(1e9, 1, 1000, 10)").fetchall() == [(True,)]
        ((tags,),) = connection.sql(
            "select tags from duckdb_databases() where database_name = current_database()"
        ).fetchall()
        assert "v1.5.0" in str(tags)
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"attach '{folder.results / SNAPSHOT}' as mine (read_only)")
        found = connection.sql("select n_edits from mine.collapse_incidence").fetchall()
        assert found == [(1,), (1,)]
        connection.execute("use mine")
        for relation in ("collapse_incidence()", "collapse_incidence(ratio := 2)"):
            found = connection.sql(f"from {relation} select n_edits").fetchall()
            assert found == [(1,), (1,)]


def test_reader_does_not_hinder_publishing(folder, make_row):
    """Who has the database open keeps what it showed; who opens it afterwards sees the new rows."""
    folder.write("models", make_row("models"))
    folder.publish()
    plain = duckdb.connect(folder.results / SNAPSHOT, read_only=True)
    with open_snapshot(folder.results) as reader, plain:
        folder.write("models", make_row("models", model_id="b"))
        folder.publish()
        assert (_count(reader), _count(plain)) == (1, 1)
        with open_snapshot(folder.results) as later:
            assert _count(later) == 2


def test_log_of_a_writing_user_is_not_replayed_into_the_new_snapshot(folder, make_row):
    """A log left beside the database by someone who wrote into it does no harm to the next one."""
    (folder.results / "results.duckdb.wal").write_bytes(b"left over")
    folder.write("models", make_row("models"))
    folder.publish()
    assert ask(folder.results, "select count(*) from models").item() == 1


def _publish(results):
    publish(results_at(results))


@pytest.mark.slow
def test_processes_that_publish_at_once_lose_no_row(folder, make_row):
    """Each of several processes writes and publishes; in the end every row is there."""
    context = multiprocessing.get_context("spawn")
    processes = []
    for number in range(3):
        rows = [make_row("models", model_id=f"{number}-{index}") for index in range(50)]
        folder.write("models", *rows)
        processes.append(context.Process(target=_publish, args=(folder.results,)))
        processes[-1].start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert ask(folder.results, "select count(*) from models").item() == 150
    assert sorted(p.name for p in folder.results.glob("results*")) == [SNAPSHOT.name]


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.2])
def test_killed_build_leaves_what_was_published(sources, make_row, delay_s):
    """After kill -9 in a build readers have the old rows, and the next build has all."""
    rows = [make_row("requests", request_id=f"r{n}", record_index=n) for n in range(20_000)]
    sources.write("requests", *rows)
    code = (
        "import sys; from editcollapse.study.results_folder import results_at\n"
        "from storage.publish import rebuild\n"
        "print(1, flush=True)\n"
        "while True: rebuild(results_at(sys.argv[1]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(sources.results)], cwd=_ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"1\n"
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
    assert ask(sources.results, "select source from models").rows() == [("d",)]
    sources.publish()
    assert ask(sources.results, "select count(*) from requests").item() == 20_000
    assert sorted(p.name for p in sources.results.glob("results*")) == [SNAPSHOT.name]


def test_failed_publication_keeps_the_old_one(folder, make_row, monkeypatch):
    """If the draft cannot take its place, readers keep what they had and no draft stays."""
    folder.write("models", make_row("models"))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "replace_database", refuse)
    with pytest.raises(ResultsError, match=r"could not publish .*Permission denied.*are safe"):
        folder.publish()
    assert ask(folder.results, "select count(*) from models").item() == 0
    assert not list(folder.results.glob("*.tmp*"))


def test_results_folder_that_cannot_be_made(tmp_path):
    """A file where the folder should be is explained."""
    (tmp_path / "results").write_text("a file")
    with pytest.raises(ResultsError, match=r"cannot write .*--results"):
        publish(results_at(tmp_path / "results"))


def test_path_with_a_quote_works(tmp_path):
    """A folder's name is never part of the SQL."""
    folder = Folder(tmp_path / "it's")
    folder.publish()
    assert ask(folder.results, "select count(*) from models").item() == 0


def test_results_at_a_url_have_the_rows_of_all_machines(tmp_path, make_row, monkeypatch):
    """Two machines with mirrors of their own publish to one URL: the last one has every row."""
    there = Folder(tmp_path / "remote")
    url = f"local://{there.results}"
    for machine in ("one", "two", "three"):
        monkeypatch.setenv("EDITCOLLAPSE_CACHE", str(tmp_path / machine))
        there.write("models", make_row("models", model_id=machine))
        there.write("models", make_row("models", source=machine))
        results_folder = results_at(url)
        assert not snapshot_is_current(results_folder)
        assert publish(results_folder).n_files == 2
        assert snapshot_is_current(results_folder)
    assert ask(there.results, "select model_id from models order by all").rows() == [
        ("model-1",),
        ("one",),
        ("three",),
        ("two",),
    ]
    assert ask(there.results, "from models where source = 'three'").height == 1
