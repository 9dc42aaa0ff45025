"""Row files are checked before anything is written."""

from pathlib import Path

import duckdb
import polars as pl
import pytest

from editcollapse.errors import ArtifactError, ResultsError
from editcollapse.fingerprints import digest_file
from editcollapse.rows.frames import frame_of
from storage.database import SNAPSHOT
from storage.ingest import RowsFile, check_frame, find_row_files, read_rows


def _stored(folder, table, frame):
    """Write a frame that may be wrong as a row file."""
    path = folder.results / "wrong.parquet"
    frame.write_parquet(path)
    return RowsFile(table, path, digest_file(path))


def test_read_rows_returns_what_was_written(folder, make_row):
    """A good file comes back as its frame, inf and nan included."""
    rows = [
        make_row("base_perplexities", perplexity=float("inf")),
        make_row("base_perplexities", model_id="b", perplexity=float("nan")),
    ]
    file = folder.write("base_perplexities", *rows)
    assert read_rows(folder.results, file).equals(frame_of("base_perplexities", rows))


def test_find_row_files_is_sorted(folder, make_row):
    """Files are found by table and digest, in that order."""
    for index in range(3):
        folder.write("studies", make_row("studies", study_id=f"s{index}"))
    folder.write("models", make_row("models"))
    found = [(file.table, file.digest) for file in find_row_files(folder.results)]
    assert found == sorted(found)
    assert len(found) == 4


def test_find_row_files_leaves_links_alone(folder, make_row, tmp_path):
    """A link to a file, and a table's folder that is one, may lead anywhere: passed over."""
    file = folder.write("studies", make_row("studies"))
    inside = folder.write("models", make_row("models"))
    outside = tmp_path / "outside"
    (folder.results / file.path).parent.rename(outside)
    (folder.results / file.path).parent.symlink_to(outside)
    link = (folder.results / inside.path).with_name(f"{'0' * 32}.parquet")
    link.symlink_to(outside / file.path.name)
    assert find_row_files(folder.results) == (inside,)
    for path in (file.path, link.relative_to(folder.results)):
        with pytest.raises(ResultsError, match="is a symbolic link"):
            read_rows(folder.results, RowsFile("studies", path, file.digest))


@pytest.mark.parametrize("base", ["", "."])
def test_folder_may_be_given_relative(folder, make_row, monkeypatch, base):
    """Row files are found and read where the results folder is named from the working directory."""
    folder.write("studies", make_row("studies"))
    monkeypatch.chdir(folder.results.parent)
    results = Path(base) / folder.results.name
    (found,) = find_row_files(results)
    assert read_rows(results, found).height == 1
    assert find_row_files(folder.results) == (found,)


@pytest.mark.parametrize("name", ["../outside.parquet", "artifacts/../../outside.parquet", "/abs"])
def test_path_that_leads_out_is_refused(folder, make_row, name):
    """A path with ``..``, and an absolute one elsewhere, are refused though the digest is right."""
    file = folder.write("studies", make_row("studies"))
    outside = folder.results.parent / "outside.parquet"
    outside.write_bytes((folder.results / file.path).read_bytes())
    path = outside if name == "/abs" else Path(name)
    with pytest.raises(ResultsError, match="leads out of the folder"):
        read_rows(folder.results, RowsFile("studies", path, file.digest))


@pytest.mark.parametrize("digest", ["../../../outside", "x'; drop table edits; --", "", "A" * 32])
def test_digest_of_a_hostile_database_is_refused(folder, digest):
    """A digest is hexadecimal digits; path characters and SQL in a database open nothing."""
    with duckdb.connect(folder.results / SNAPSHOT) as connection:
        connection.execute("insert into row_files values ('studies', ?, 1, 1)", [digest])
    (skipped,) = folder.rebuild().skipped
    assert "has no digest's name" in skipped.reason


@pytest.mark.parametrize("table", ["../../../etc", "edits; drop table edits", "row_files", ""])
def test_table_of_a_hostile_database_is_refused(folder, table):
    """Only the tables that there are name folders, and never row_files itself."""
    with duckdb.connect(folder.results / SNAPSHOT) as connection:
        connection.execute("insert into row_files values (?, ?, 1, 1)", [table, "0" * 32])
    (skipped,) = folder.rebuild().skipped
    assert "which there is not" in skipped.reason


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda frame: frame.drop("seed"), "column 'seed' is missing"),
        (lambda frame: frame.with_columns(pl.lit(1).alias("sed")), "column 'sed' is unknown"),
        (lambda frame: frame.with_columns(pl.col("seed").cast(pl.Int32)), "is Int32, not Int64"),
        (
            lambda frame: frame.with_columns(pl.lit(None, pl.Int64).alias("seed")),
            "column 'seed' has 1 empty values",
        ),
    ],
)
def test_wrong_columns_are_named(folder, make_row, change, fault):
    """A column that is missing, unknown, mistyped or empty is named with its file."""
    file = _stored(folder, "studies", change(frame_of("studies", [make_row("studies")])))
    with pytest.raises(ResultsError, match=rf"wrong\.parquet .* table studies.*{fault}"):
        read_rows(folder.results, file)


def test_check_frame_accepts_empty_optional_columns(make_row):
    """None is welcome where the row type says so."""
    frame = frame_of("requests", [make_row("requests", target_true=None)])
    check_frame("requests", frame, "a frame")


def test_unknown_table_lists_the_known(folder, make_row):
    """A table that does not exist is answered with those that do, the nearest first."""
    file = folder.write("edits", make_row("edits"))
    wrong = RowsFile("edit", file.path, file.digest)
    with pytest.raises(ResultsError, match=r"table 'edit', which there is not\. Known: edits,"):
        read_rows(folder.results, wrong)


def test_changed_bytes_are_refused(folder, make_row):
    """A file whose bytes changed is not read."""
    file = folder.write("edits", make_row("edits"))
    with (folder.results / file.path).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ArtifactError, match=f"should have digest {file.digest}"):
        read_rows(folder.results, file)


def test_missing_file_says_what_to_do(folder, make_row):
    """A file that is not there is an ArtifactError with the way out."""
    file = folder.write("edits", make_row("edits"))
    (folder.results / file.path).unlink()
    with pytest.raises(ArtifactError, match=r"is missing\. Run its study again"):
        read_rows(folder.results, file)


def test_file_that_is_no_parquet_is_refused(folder):
    """A right digest does not make a text file a row file."""
    path = folder.results / "text.parquet"
    path.write_text("no parquet")
    with pytest.raises(ResultsError, match="cannot be read as Parquet"):
        read_rows(folder.results, RowsFile("edits", path, digest_file(path)))
