"""Stores of every released schema are brought to this version's, with all their rows."""

import gzip
import shutil
import tarfile
from pathlib import Path

import duckdb
import polars as pl
import pytest

from editcollapse.errors import ResultsError
from editcollapse.fingerprints import digest_file
from editcollapse.rows.frames import frame_of
from editcollapse.rows.study import ROW_TYPES
from storage.backup import restore
from storage.database import (
    SNAPSHOT,
    STORE,
    connect,
    open_snapshot,
    open_store,
    publish_from,
    publish_snapshot,
)
from storage.migrate import MIGRATIONS, migrate, read_migrations
from storage.queries import ask
from storage.rebuild import rebuild
from storage.rows import RowsFile, find_row_files, read_rows
from storage.writer import ingest
from tests.storage.conftest import Folder
from tests.storage.schema_fixtures import SCHEMAS, fixture_of

_NEWEST = read_migrations()[-1].number
_RELEASED = sorted(int(path.name[:4]) for path in SCHEMAS.glob("*.tar.gz"))
_EXTRA = (
    "alter table models add column extra bigint; "
    "comment on column models.extra is 'Something new. Count. NULL = not measured.';"
    "create table notes (note varchar, primary key (note)); comment on table notes is 'Notes.';"
    "comment on column notes.note is 'Text.'"
)


@pytest.fixture(scope="module", params=_RELEASED)
def old(request, tmp_path_factory) -> Path:
    """Return a results folder as a version with an earlier schema left it; not to be changed."""
    place = tmp_path_factory.mktemp(f"schema{request.param}")
    (place / "old.tar").write_bytes(gzip.decompress(fixture_of(request.param).read_bytes()))
    with tarfile.open(place / "old.tar") as tar:
        tar.extractall(place, filter="data")
    (results,) = place.glob("*/data")
    (results / STORE).parent.mkdir()
    shutil.copyfile(results / SNAPSHOT, results / STORE)
    return results


@pytest.fixture
def upgraded(old, tmp_path) -> Path:
    """Return a copy of it that may be changed."""
    return shutil.copytree(old, tmp_path / "results")


def _rows(connection) -> dict[str, list[tuple[object, ...]]]:
    """Return every table as text, which compares nan and inf."""
    return {
        table: connection.sql(f"select columns(*)::varchar from {table} order by all").fetchall()  # noqa: S608
        for table in ROW_TYPES
    }


def _number(connection) -> int:
    return connection.sql("select max(number) from schema_migrations").fetchall()[0][0]


def test_every_released_schema_has_a_store():
    """A new migration needs a store of the schema before it: schema_fixtures makes one."""
    assert set(range(1, _NEWEST)) <= set(_RELEASED) <= set(range(1, _NEWEST + 1))
    assert _RELEASED


def test_old_store_is_upgraded_with_its_rows(upgraded, tmp_path):
    """What a migration makes of a store is what its row files give to a new one."""
    again = shutil.copytree(upgraded, tmp_path / "again")
    with open_store(upgraded) as connection:
        assert _number(connection) == _NEWEST
        found = _rows(connection)
    filled = {file.table for file in find_row_files(upgraded)}
    assert filled == {table for table, rows in found.items() if rows}
    assert rebuild(again).skipped == ()
    with open_store(again) as connection:
        assert _rows(connection) == found


def test_old_snapshot_answers_and_the_next_publication_is_new(upgraded):
    """Nobody has to upgrade to read; what is published next has this version's schema."""
    (before,) = ask(upgraded, "select count(*) from measurements").row(0)
    assert before > 0
    publish_snapshot(upgraded)
    with open_snapshot(upgraded) as connection:
        assert _number(connection) == _NEWEST
    assert ask(upgraded, "select count(*) from measurements").row(0) == (before,)
    assert ask(upgraded, "from collapse_incidence").height > 0


def test_old_store_takes_in_rows_of_today(upgraded, make_row):
    """An upgraded store is a store: new rows enter it, its old files stay known."""
    Folder(upgraded).write("models", make_row("models", model_id="new"))
    assert ingest(upgraded, [*find_row_files(upgraded)]).n_files == 1


def test_backup_of_an_old_version_can_be_restored(old, tmp_path, request):
    """The fixture is a backup: it comes back under this version's schema."""
    number = request.node.callspec.params["old"]
    (tmp_path / "old.tar").write_bytes(gzip.decompress(fixture_of(number).read_bytes()))
    assert restore(tmp_path / "old.tar", tmp_path / "restored").skipped == ()
    with open_store(tmp_path / "restored") as connection:
        assert _number(connection) == _NEWEST


def _next(tmp_path: Path, text: str = _EXTRA) -> Path:
    """Return a folder of migrations with one more than there are."""
    folder = shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    (folder / f"{_NEWEST + 1:04d}_more.sql").write_text(text)
    return folder


def test_next_migration_keeps_rows_and_is_published(upgraded, tmp_path):
    """A column and a table more: old rows are NULL in it, views stand, readers see both."""
    with open_store(upgraded) as connection:
        before = _rows(connection)
    more = _next(tmp_path)
    connection = connect(upgraded / STORE)
    try:
        migrate(connection, migrations=more)
        migrate(connection, migrations=more)
        assert _number(connection) == _NEWEST + 1
        publish_from(connection, upgraded)
        connection.execute("alter table models drop column extra")
        assert _rows(connection) == before
    finally:
        connection.close()
    assert ask(upgraded, "select distinct extra from models").rows() == [(None,)]
    assert ask(upgraded, "from notes").is_empty()
    assert ask(upgraded, "from collapse_incidence").height > 0


def test_failed_migration_leaves_the_old_store(upgraded, tmp_path):
    """A migration that fails at its end has changed nothing on disk."""
    with open_store(upgraded) as connection:
        before = _rows(connection)
    more = _next(tmp_path, f"{_EXTRA}; select nothing")
    connection = connect(upgraded / STORE)
    try:
        with pytest.raises(duckdb.Error, match="nothing"):
            migrate(connection, migrations=more)
    finally:
        connection.close()
    with open_store(upgraded) as connection:
        assert _number(connection) == _NEWEST
        assert _rows(connection) == before


@pytest.mark.parametrize("what", [publish_snapshot, rebuild])
def test_store_of_a_newer_version_is_left_alone(upgraded, tmp_path, what):
    """Neither a study nor a rebuild makes an older store of it; its snapshot still answers."""
    connection = connect(upgraded / STORE)
    try:
        migrate(connection, migrations=_next(tmp_path))
        publish_from(connection, upgraded)
    finally:
        connection.close()
    before = digest_file(upgraded / STORE)
    with pytest.raises(ResultsError, match=r"written by a newer editcollapse .* Upgrade it"):
        what(upgraded)
    assert digest_file(upgraded / STORE) == before
    assert ask(upgraded, "select count(*) from notes").item() == 0


def test_row_file_older_than_a_column_is_read(folder, make_row):
    """A column that may be empty is empty in files from before it was there."""
    row = make_row("requests", target_true="Rome")
    frame = frame_of("requests", [row])
    path = folder.results / "old.parquet"
    frame.drop("target_true").write_parquet(path)
    found = read_rows(folder.results, RowsFile("requests", path, digest_file(path)))
    expected = frame.with_columns(pl.lit(None, pl.String).alias("target_true"))
    assert found.select(expected.columns).equals(expected)
    assert ingest(folder.results, [RowsFile("requests", path, digest_file(path))]).n_rows == 1
