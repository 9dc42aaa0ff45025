"""The schema: complete, described, applied once, refused where it does not fit."""

import dataclasses
import shutil
import types
import typing

import duckdb
import pytest

from editcollapse.errors import ResultsError
from editcollapse.rows.study import NATURAL_KEYS, ROW_TYPES
from storage import migrate as module
from storage.migrate import MIGRATIONS, VIEWS, migrate, read_migrations

_NEWEST = read_migrations()[-1].number
_SQL_TYPES = {
    str: "VARCHAR",
    int: "BIGINT",
    float: "DOUBLE",
    bool: "BOOLEAN",
    list[int]: "BIGINT[]",
}


@pytest.fixture(scope="module")
def migrated():
    """Return a database in memory that has the schema; tests only read it."""
    with duckdb.connect(":memory:") as connection:
        migrate(connection)
        yield connection


@pytest.fixture
def connection():
    """Return an empty database in memory."""
    with duckdb.connect(":memory:") as connection:
        yield connection


@pytest.mark.parametrize("table", sorted(ROW_TYPES))
def test_table_columns_are_the_row_types_fields(migrated, table):
    """Each table has its row type's fields and no other, typed, NULL only where None may be."""
    migrate(migrated)
    hints = typing.get_type_hints(ROW_TYPES[table])
    expected = set()
    for field in dataclasses.fields(ROW_TYPES[table]):
        hint = hints[field.name]
        optional = isinstance(hint, types.UnionType)
        plain = typing.get_args(hint)[0] if optional else hint
        expected.add((field.name, _SQL_TYPES[plain], optional))
    found = migrated.execute(
        "select column_name, data_type, is_nullable from duckdb_columns() where table_name = ?",
        [table],
    ).fetchall()
    assert set(found) == expected


@pytest.mark.parametrize("table", sorted(ROW_TYPES))
def test_primary_key_is_the_natural_key(migrated, table):
    """Each table's primary key is its natural key, so that recording again is an upsert."""
    migrate(migrated)
    ((found,),) = migrated.execute(
        "select constraint_column_names from duckdb_constraints() "
        "where table_name = ? and constraint_type = 'PRIMARY KEY'",
        [table],
    ).fetchall()
    assert tuple(found) == NATURAL_KEYS[table]


def test_every_table_view_macro_and_column_has_a_comment(migrated):
    """Whatever can be asked says what it means."""
    migrate(migrated)
    bare = migrated.execute(
        """
        select table_name, null from duckdb_tables() where not internal and comment is null
        union all
        select view_name, null from duckdb_views() where not internal and comment is null
        union all
        select function_name, null from duckdb_functions()
        where not internal and comment is null and function_type in ('macro', 'table_macro')
        union all
        select table_name, column_name from duckdb_columns() where not internal and comment is null
        """
    ).fetchall()
    assert bare == []


def test_comments_of_nullable_columns_say_what_null_means(migrated):
    """A column that may be NULL says why, and no other column speaks of it."""
    migrate(migrated)
    wrong = migrated.execute(
        "select table_name, column_name from duckdb_columns() inner join duckdb_tables() "
        "using (table_name) where is_nullable <> contains(duckdb_columns.comment, 'NULL')"
    ).fetchall()
    assert wrong == []


def test_every_sql_file_opens_with_its_purpose():
    """The first line of each view file is a comment that asks the question it answers."""
    for path in VIEWS.glob("*.sql"):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("-- "), path
        assert first.endswith("?"), path


def test_migrating_twice_changes_nothing(connection):
    """A second run applies no file again and makes no view anew."""
    migrate(connection)
    records = connection.execute("from schema_migrations order by number").fetchall()
    migrate(connection)
    assert connection.execute("from schema_migrations order by number").fetchall() == records
    assert [record[0] for record in records] == list(range(_NEWEST + 1))


def test_changed_migration_is_refused(connection, tmp_path):
    """A file that was applied may not change afterwards."""
    migrate(connection)
    changed = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, changed)
    with (changed / "0001_initial.sql").open("a") as stream:
        stream.write("-- one more line\n")
    with pytest.raises(ResultsError, match=r"another text of migration 0001_initial\.sql"):
        migrate(connection, migrations=changed)


def test_store_of_a_newer_version_is_refused(connection):
    """A store with a migration we do not know is left alone."""
    migrate(connection)
    connection.execute("insert into schema_migrations values (999, 'x', 'x', now())")
    with pytest.raises(ResultsError, match=r"schema number 999, written by a newer editcollapse"):
        migrate(connection)


def test_failed_migration_leaves_nothing(connection, tmp_path):
    """A file that fails half-way leaves neither its tables nor its record."""
    migrate(connection)
    more = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, more)
    broken = more / f"{_NEWEST + 1:04d}_broken.sql"
    broken.write_text("create table extra (a int); select nothing;")
    with pytest.raises(duckdb.Error):
        migrate(connection, migrations=more)
    tables = connection.execute("select table_name from duckdb_tables()").fetchall()
    assert ("extra",) not in tables
    assert connection.execute("select max(number) from schema_migrations").fetchone() == (_NEWEST,)


def test_second_migration_is_applied_and_views_follow_their_files(connection, tmp_path):
    """A later file is applied to an old store; a view without a file goes, a new one comes."""
    migrate(connection)
    more, views = tmp_path / "migrations", tmp_path / "views"
    shutil.copytree(MIGRATIONS, more)
    (more / f"{_NEWEST + 1:04d}_extra.sql").write_text(
        "create table extra (a int); comment on table extra is 'x'"
    )
    views.mkdir()
    (views / "10_only.sql").write_text("create view only_view as from main.extra")
    migrate(connection, migrations=more, views=views)
    names = connection.execute("select view_name from duckdb_views() where not internal").fetchall()
    assert names == [("only_view",)]
    macros = connection.execute(
        "select 1 from duckdb_functions() where function_name = 'collapsed'"
    ).fetchall()
    assert macros == []


def test_migration_numbers_are_distinct_and_in_order():
    """Files are numbered 1, 2, 3 and so on."""
    numbers = [migration.number for migration in read_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert module.MIGRATIONS == MIGRATIONS
