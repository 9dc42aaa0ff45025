"""Taking in row files: once each, all or nothing, the last word wins."""

import math

import duckdb
import polars as pl
import pytest

from editcollapse.errors import ArtifactError, ResultsError
from editcollapse.rows.frames import frame_of, rows_of, schema_of
from editcollapse.rows.study import ROW_TYPES
from storage import writer
from storage.database import open_store
from storage.rows import RowsFile
from storage.writer import ingest, snapshot_is_current


def _table(folder, table):
    """Return a table of the store as a frame with its schema's column order."""
    with open_store(folder.results) as connection:
        names = ", ".join(schema_of(table))
        return connection.sql(f"select {names} from {table} order by all").pl()  # noqa: S608


@pytest.mark.parametrize("table", sorted(ROW_TYPES))
def test_rows_come_back_as_they_were(folder, make_row, table):
    """A row of each table, with its optional fields empty, survives the way through DuckDB."""
    row = make_row(table)
    folder.add(table, row)
    assert rows_of(table, _table(folder, table)) == [row]


def test_inf_and_nan_are_kept(folder, make_row):
    """Non-finite numbers are measurements: stored as such, not as NULL."""
    folder.add(
        "base_perplexities",
        make_row("base_perplexities", perplexity=math.inf, nll_mean=math.nan),
    )
    (row,) = rows_of("base_perplexities", _table(folder, "base_perplexities"))
    assert row.perplexity == math.inf
    assert math.isnan(row.nll_mean)


def test_same_file_twice_counts_once(folder, make_row):
    """A file whose digest is in the ledger is skipped."""
    file = folder.write("models", make_row("models"))
    first, second = ingest(folder.results, [file]), ingest(folder.results, [file, file])
    assert (first.n_files, first.n_rows, first.n_known) == (1, 1, 0)
    assert (second.n_files, second.n_rows, second.n_known) == (0, 0, 2)


def test_same_key_again_replaces_the_row(folder, make_row):
    """Recording a row again is an upsert: one row, with the new values."""
    folder.add("models", make_row("models", source="old"), make_row("models", model_id="b"))
    folder.add("models", make_row("models", source="new"))
    assert _table(folder, "models").select("model_id", "source").rows() == [
        ("b", "x"),
        ("model-1", "new"),
    ]


def test_equal_keys_in_one_call_keep_the_last(folder, make_row):
    """Within a file and between files of one call the later row wins."""
    files = [
        folder.write("models", make_row("models", source="1"), make_row("models", source="2")),
        folder.write("models", make_row("models", source="3"), make_row("models", source="4")),
    ]
    ingest(folder.results, files)
    assert _table(folder, "models")["source"].to_list() == ["4"]


def test_table_of_keys_alone_can_be_repeated(folder, make_row):
    """study_edits has no other column; the same pair again is no error."""
    folder.add("study_edits", make_row("study_edits"))
    folder.add("study_edits", make_row("study_edits"), make_row("study_edits", edit_id="b"))
    assert _table(folder, "study_edits").height == 2


def test_template_tokens_can_be_replaced(folder, make_row):
    """A column of lists is upserted as well."""
    folder.add("templates", make_row("templates", token_ids=[1, 2, 3]))
    folder.add("templates", make_row("templates", token_ids=[]))
    assert _table(folder, "templates")["token_ids"].to_list() == [[]]


def test_one_bad_file_keeps_the_whole_call_out(folder, make_row):
    """A call with one file that cannot be used writes nothing of the others."""
    good = folder.write("models", make_row("models"))
    missing = RowsFile("edits", folder.results / "none.parquet", "0" * 32)
    with pytest.raises(ArtifactError):
        ingest(folder.results, [good, missing])
    assert _table(folder, "models").is_empty()


def test_failure_in_the_middle_leaves_nothing(folder, make_row, monkeypatch):
    """If the process is stopped between two tables, neither rows nor ledger rows stay."""
    files = [folder.write(table, make_row(table)) for table in ("edits", "models")]
    upsert = writer._upsert

    def stop(connection, table, parts):
        upsert(connection, table, parts)
        if table == "models":
            raise KeyboardInterrupt

    monkeypatch.setattr(writer, "_upsert", stop)
    with pytest.raises(KeyboardInterrupt):
        ingest(folder.results, files)
    monkeypatch.undo()
    with open_store(folder.results) as connection:
        for table in ("edits", "models", "ledger"):
            assert connection.execute(f"select count(*) from {table}").fetchone() == (0,)  # noqa: S608
    assert ingest(folder.results, files).n_files == 2


def test_duckdbs_refusal_is_a_results_error(folder, make_row, monkeypatch):
    """What DuckDB says about a failed write reaches the user as one sentence."""

    def refuse(*_):
        raise duckdb.IOException("no space left")

    monkeypatch.setattr(writer, "_upsert", refuse)
    with pytest.raises(ResultsError, match=r"no space left\. Nothing of them was kept"):
        ingest(folder.results, [folder.write("models", make_row("models"))])


def test_ledger_records_each_file(folder, make_row):
    """The ledger has table, digest, rows, order and time of every file."""
    first = folder.add("models", make_row("models"), make_row("models", model_id="b"))
    second = folder.add("studies", make_row("studies"))
    with open_store(folder.results) as connection:
        ledger = connection.sql("from ledger order by ingest_order").pl()
    assert ledger.drop("ingested_at").rows() == [
        ("models", first.digest, 2, 1),
        ("studies", second.digest, 1, 2),
    ]
    assert ledger["ingested_at"].null_count() == 0


def test_nothing_to_take_in_is_no_error(folder):
    """An empty call makes the store and reports nothing."""
    assert ingest(folder.results, []).n_files == 0


def test_many_small_files_make_one_table(folder, make_row):
    """Several hundred files of one row each end up as so many rows."""
    rows = [make_row("study_edits", edit_id=f"edit-{index:03}") for index in range(300)]
    ingest(folder.results, [folder.write("study_edits", row) for row in rows])
    expected = frame_of("study_edits", rows).sort(pl.all())
    assert _table(folder, "study_edits").equals(expected)


def test_snapshot_behind_the_store_is_not_current(folder, make_row):
    """A snapshot published while a study ran has to be published again at its end."""
    folder.add("models", make_row("models"))
    assert not snapshot_is_current(folder.results)
    folder.publish()
    assert snapshot_is_current(folder.results)
    folder.add("models", make_row("models", model_id="b"))
    assert not snapshot_is_current(folder.results)
