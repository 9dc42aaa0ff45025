"""The schema: complete, described, and with one rule of collapse."""

import dataclasses
import re
import types
import typing

import duckdb
import pytest

from editcollapse.rows.study import ROW_TYPES
from storage.ask import ask
from storage.schema import DEFAULT_RULE, SQL, TABLES, VIEWS, CollapseRule, make_schema

_SQL_TYPES = {
    str: "VARCHAR",
    int: "BIGINT",
    float: "DOUBLE",
    bool: "BOOLEAN",
    list[int]: "BIGINT[]",
    list[float]: "DOUBLE[]",
}


_DERIVED = {
    "studies": {
        ("kind", "VARCHAR", True),
        ("first_run_at", "VARCHAR", True),
        ("last_run_at", "VARCHAR", True),
    },
    "study_models": {("place", "BIGINT", True)},
}
"""Columns that no row file has: each publication fills them."""


@pytest.fixture(scope="module")
def made():
    """Return a database in memory that has the schema; tests only read it."""
    with duckdb.connect(":memory:") as connection:
        make_schema(connection)
        yield connection


@pytest.mark.parametrize("table", sorted(ROW_TYPES))
def test_table_columns_are_the_row_types_fields(made, table):
    """Each table has its row type's fields, typed, NULL only where None may be, or derived ones."""
    hints = typing.get_type_hints(ROW_TYPES[table])
    expected = set()
    for field in dataclasses.fields(ROW_TYPES[table]):
        hint = hints[field.name]
        optional = isinstance(hint, types.UnionType)
        plain = typing.get_args(hint)[0] if optional else hint
        expected.add((field.name, _SQL_TYPES[plain], optional))
    found = made.execute(
        "select column_name, data_type, is_nullable from duckdb_columns() where table_name = ?",
        [table],
    ).fetchall()
    assert set(found) == expected | _DERIVED.get(table, set())


def test_every_table_view_macro_and_column_has_a_comment(made):
    """Whatever can be asked says what it means."""
    bare = made.execute(
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


def test_comments_of_nullable_columns_say_what_null_means(made):
    """A column that may be NULL says why, and no other column speaks of it."""
    wrong = made.execute(
        "select table_name, column_name from duckdb_columns() inner join duckdb_tables() "
        "using (table_name) where is_nullable <> contains(duckdb_columns.comment, 'NULL')"
    ).fetchall()
    assert wrong == []


def test_every_view_file_opens_with_its_question():
    """The first line of each view file is a comment that asks the question it answers."""
    for path in VIEWS.glob("*.sql"):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("-- "), path
        assert first.endswith("?"), path


def test_default_rule_stands_once(made):
    """The macro has the Python default; no table, view or query repeats its numbers."""
    (found,) = made.execute("select collapse_rule()").fetchone()
    assert found == dataclasses.asdict(DEFAULT_RULE)
    numbers = [f"{bound:g}" for bound in (found["threshold"], found["ratio"])]
    repeated = re.compile(
        rf"(?:threshold|ratio) :?= (?:{'|'.join(numbers)})\b|before, {', '.join(numbers)}\)"
    )
    for folder in (TABLES, VIEWS, SQL / "queries", SQL / "recipes"):
        for path in folder.glob("*.sql"):
            assert not repeated.search(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize(
    ("rule", "n_collapsed"),
    [
        ((50.0, None), 1),
        ((None, 2.5), 2),
        ((None, 2.5, "nll"), 1),
        ((None, 2.5, "median"), 0),
    ],
)
def test_views_ask_by_the_rule_that_the_schema_was_made_with(rule, n_collapsed):
    """A default that is another one reaches the views; None leaves a bound out."""
    with duckdb.connect(":memory:") as connection:
        make_schema(connection, CollapseRule(*rule))
        connection.execute(
            "insert into measured_edits select 's', 's', 'm', 'rome', 'd', 'inside', "
            "unnest([4.0, 30.0, 60.0]), 10.0, unnest([1.0, 1.0, 3.0]), 1.0, 4.0, 3.0, 'Lumo'"
        )
        (found,) = connection.execute("select n_collapsed from collapse_incidence").fetchone()
        asked = "threshold := 1, ratio := null, measure := 'mean'"
        other = f"select n_collapsed from collapse_incidence({asked})"  # noqa: S608 - ours
        assert found == n_collapsed
        assert connection.execute(other).fetchone() == (0,)  # the unedited model stands above it


def test_verdicts_tell_two_entries_of_one_folder_apart(folder, make_row):
    """With and without start token a folder is two models: a study's name for each is shown."""
    for model_id, name, token in (("a", "with start", "<s>"), ("b", "plain", None)):
        folder.write(
            "models", make_row("models", model_id=model_id, source="one", start_token=token)
        )
        folder.write("study_models", make_row("study_models", model_id=model_id, name=name))
        folder.write("forecasts", make_row("forecasts", edit_id=name, model_id=model_id))
    folder.write("models", make_row("models", model_id="c", source="one", start_token="<s>"))
    folder.write("forecasts", make_row("forecasts", edit_id="c", model_id="c"))
    folder.publish()
    for view in ("forecast_verdicts", "forecast_by_layer"):
        query = f"from {view} select model, model_source order by model"
        assert ask(folder.results, query).rows() == [
            ("one with start token <s>", "one"),
            ("plain", "one"),
            ("with start", "one"),
        ]
