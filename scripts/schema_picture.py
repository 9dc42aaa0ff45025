"""The picture that docs/schema.md opens with: the tables and views that most questions need.

Tables and joins are named here and looked up in the schema; what a view reads is read from its SQL.
"""

import re
from collections.abc import Iterator

import polars as pl

from editcollapse.errors import ResultsError
from storage.schema import VIEWS

_TABLES = ("studies", "study_edits", "edits", "models", "requests", "measurements")
_VIEWS = ("edit_outcomes", "collapse_incidence", "collapse_by_position")
_JOINS = (
    ("studies", "study_edits", "study_id"),
    ("study_edits", "edits", "edit_id"),
    ("models", "edits", "model_id"),
    ("requests", "edits", "request_id"),
    ("edits", "measurements", "edit_id"),
    ("studies", "measurements", "evaluation_id"),
)
"""Two tables and the column that joins them."""
_COPIES = {"measured_edits": "edit_outcomes", "judged_edits": "edit_outcomes"}
"""A table that a publication fills with a view's rows, so that counting joins nothing; the macro
that judges them."""
_READ = re.compile(r"\bmain\.(\w+)")


def picture(relations: pl.DataFrame) -> str:
    """Return the picture as a Mermaid flowchart, which GitHub draws.

    Args:
        relations: what ``ask.describe`` returns of a database with the schema.

    Raises:
        ResultsError: the picture names a table, view or column that the schema does not have.
    """
    return "\n".join(["```mermaid", "flowchart LR", *_lines(relations), "```"])


def _lines(relations: pl.DataFrame) -> Iterator[str]:
    yield "    subgraph tables"
    for name in _TABLES:
        _check(relations, "table", name, None)
        yield f"        {name}[({name})]"
    for left, right, column in _JOINS:
        _check(relations, "table", left, column)
        _check(relations, "table", right, column)
        yield f"        {left} ---|{column}| {right}"
    yield "    end"
    for view in _VIEWS:
        _check(relations, "view", view, None)
        read = _sources(view)
        for name in ("tables",) if read >= set(_TABLES) else [v for v in _VIEWS if v in read]:
            yield f"    {name} ==> {view}[[{view}]]"


def _sources(view: str) -> set[str]:
    """Return the tables, views and macros that a view's file reads, but itself."""
    (path,) = VIEWS.glob(f"*_{view}.sql")
    found = set(_READ.findall(path.read_text(encoding="utf-8"))) - {view}
    return {_COPIES.get(name, name) for name in found}


def _check(relations: pl.DataFrame, kind: str, name: str, column: str | None) -> None:
    """Raise ResultsError where the schema has no such relation, or the relation no such column."""
    named = relations.filter(kind=kind, name=name)
    found = named["column"].to_list()
    if column not in found:
        what = f"{kind} {name}" if column is None else f"column {name}.{column}"
        raise ResultsError(
            f"the picture of the schema has {what}, which there is not. Correct "
            "scripts/schema_picture.py."
        )
