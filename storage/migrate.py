"""Bring a store to this version's schema: numbered files once each, then the views anew."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from editcollapse.errors import ResultsError
from editcollapse.fingerprints import digest
from storage.transactions import literal, transaction

MIGRATIONS = Path(__file__).parent / "migrations"
"""Numbered files that make the tables; never edited after release."""
VIEWS = Path(__file__).parent / "views"
"""Views and macros; the numbers before their names are the order of dependency."""

_VIEWS_NUMBER = 0
_RECORD = """
    insert into schema_migrations by name
    select $number as number, $name as name, $digest as digest, $applied_at as applied_at
    on conflict do update set digest = excluded.digest, applied_at = excluded.applied_at
"""
_OTHERS = (
    "published",
    "measured_edits",
    "guard_decisions",
    "continuations",
    "anatomies",
    "key_points",
    "anatomy_findings",
    "position_profiles",
)
"""Tables whose comments no view takes over: their columns share names with others of ours."""
_RELATIONS = """
    select 'view ' || '"' || view_name || '"' from duckdb_views()
    where database_name = current_database() and not internal
    union all
    select case function_type when 'macro' then 'macro ' else 'macro table ' end
        || '"' || function_name || '"'
    from duckdb_functions()
    where database_name = current_database() and not internal
        and function_type in ('macro', 'table_macro')
"""
_INHERITED = """
    with columns as (
        select table_name, column_name, comment,
            table_name in (select view_name from duckdb_views()) as of_view
        from duckdb_columns()
        where database_name = current_database() and not internal
            and not list_contains($others, table_name)
    )
    select bare.table_name, bare.column_name, min(known.comment)
    from columns as bare
    inner join columns as known on known.column_name = bare.column_name and not known.of_view
    where bare.of_view and bare.comment is null
    group by all
    having count(distinct known.comment) = 1
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    text: str

    @property
    def digest(self) -> str:
        """Digest of the text."""
        return digest(self.text)


@dataclasses.dataclass(frozen=True, slots=True)
class Applied:
    """A file that the store was made with."""

    number: int
    digest: str


def read_migrations(folder: Path = MIGRATIONS) -> tuple[Migration, ...]:
    """Return the numbered files of a folder in order."""
    return tuple(
        Migration(int(path.name.split("_")[0]), path.name, path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.sql"))
    )


def migrate(
    connection: duckdb.DuckDBPyConnection, migrations: Path = MIGRATIONS, views: Path = VIEWS
) -> None:
    """Apply what is missing, each file in one transaction with its record; then the views.

    Views and macros are dropped and made anew after a migration and whenever their files differ
    from those they were made of.

    Raises:
        ResultsError: the store was written by a newer version, or a file that was applied has been
            changed since.
    """
    known = read_migrations(migrations)
    applied = _applied(connection)
    _check(known, applied)
    numbers = {record.number for record in applied}
    pending = [migration for migration in known if migration.number not in numbers]
    for migration in pending:
        with transaction(connection):
            connection.execute(migration.text)
            _record(connection, migration)
    files = sorted(views.glob("*.sql"))
    texts = [file.read_text(encoding="utf-8") for file in files]
    current = Migration(_VIEWS_NUMBER, "views", "\n".join(texts))
    if pending or Applied(_VIEWS_NUMBER, current.digest) not in applied:
        with transaction(connection):
            _drop_views(connection)
            for text in texts:
                connection.execute(text)
            _inherit_comments(connection)
            _record(connection, current)


def refuse_newer(connection: duckdb.DuckDBPyConnection) -> None:
    """Raise ResultsError if a database was written by a newer version than this."""
    newest = max(migration.number for migration in read_migrations())
    found = max((record.number for record in _applied(connection)), default=0)
    if found > newest:
        raise _newer(found, newest)


def _applied(connection: duckdb.DuckDBPyConnection) -> tuple[Applied, ...]:
    """Return what was applied; empty for a new store."""
    tables = connection.execute(
        "select table_name from duckdb_tables() where database_name = current_database()"
    ).fetchall()
    if ("schema_migrations",) not in tables:
        return ()
    records = connection.execute("select number, digest from schema_migrations").fetchall()
    return tuple(Applied(number, text_digest) for number, text_digest in records)


def _check(known: tuple[Migration, ...], applied: tuple[Applied, ...]) -> None:
    """Raise ResultsError if the store does not go with these files."""
    newest = max(migration.number for migration in known)
    digests = {record.number: record.digest for record in applied}
    if digests and max(digests) > newest:
        raise _newer(max(digests), newest)
    for migration in known:
        found = digests.get(migration.number, migration.digest)
        if found != migration.digest:
            raise ResultsError(
                f"the results store was made with another text of migration {migration.name} "
                f"(digest {found}, now {migration.digest}). Restore that file and put the change "
                "into a new one, or rebuild the store from its row files."
            )


def _newer(found: int, newest: int) -> ResultsError:
    return ResultsError(
        f"the results store has schema number {found}, written by a newer editcollapse "
        f"(this one knows up to {newest}). Upgrade it, or use another results folder."
    )


def _record(connection: duckdb.DuckDBPyConnection, migration: Migration) -> None:
    """Write down that a migration was applied."""
    connection.execute(
        _RECORD,
        {
            "number": migration.number,
            "name": migration.name,
            "digest": migration.digest,
            "applied_at": datetime.now(UTC).replace(tzinfo=None),
        },
    )


def _drop_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop every view and macro."""
    for (relation,) in connection.execute(_RELATIONS).fetchall():
        connection.execute(f"drop {relation}")


def _inherit_comments(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a view's column without comment that of the table columns of its name, if they agree."""
    for view, column, comment in connection.execute(
        _INHERITED, {"others": list(_OTHERS)}
    ).fetchall():
        connection.execute(f'comment on column "{view}"."{column}" is {literal(comment)}')
