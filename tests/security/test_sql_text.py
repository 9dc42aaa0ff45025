"""No value becomes a part of SQL: what statements are put together from is listed here."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_METHODS = {"execute", "executemany", "sql", "query", "from_query"}
_QUOTED = {"literal"}
"""Functions whose result is quoted."""
KNOWN = {
    "storage/ask.py": {"name"},
    "storage/dataset.py": {"table"},
    "storage/ingest.py": {"table", "same"},
    "storage/schema.py": {"view", "column"},
    "scripts/demo_rows.py": {"', '.join(keys)", "table"},
}
"""Names that are put into statements: table and column names of ours, read from the row types or
from DuckDB's own catalog, and constants."""


def _files() -> list[Path]:
    found = [
        path
        for name in ("storage", "flows", "tasks", "scripts")
        for path in (ROOT / name).rglob("*.py")
    ]
    assert len(found) > 30
    return sorted(found)


def _statements(path: Path) -> list[ast.expr]:
    """Return the first argument of every call that runs SQL."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.args[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _METHODS
        and node.args
    ]


def _parts(statement: ast.expr) -> set[str]:
    """Return what a statement is put together from, but for what is quoted."""
    parts = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.FormattedValue):
            value = node.value
            is_call = isinstance(value, ast.Call) and isinstance(value.func, ast.Name)
            if not (is_call and value.func.id in _QUOTED):
                parts.add(ast.unparse(value))
        elif isinstance(node, ast.BinOp) or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"format", "format_map"}
        ):
            parts.add(ast.unparse(node))
    return parts


def test_statements_are_put_together_from_known_names():
    """No value of a user, a file or a row is part of a statement: values are parameters."""
    found = {
        path.relative_to(ROOT).as_posix(): parts
        for path in _files()
        if (parts := {part for statement in _statements(path) for part in _parts(statement)})
    }
    assert found == KNOWN


@pytest.mark.parametrize(
    ("statement", "parts"),
    [
        ("c.execute(f'select {x}')", {"x"}),
        ("c.sql('select ' + x)", {"'select ' + x"}),
        ("c.sql('select {}'.format(x))", {"'select {}'.format(x)"}),
        ("c.sql('select %s' % x)", {"'select %s' % x"}),
        ("c.execute(f'attach {literal(x)}')", set()),
        ("c.execute('select ?', [x])", set()),
    ],
)
def test_every_way_of_putting_together_is_seen(statement, parts, tmp_path):
    """The test above would see a value that got into SQL in any of the usual ways."""
    (tmp_path / "a.py").write_text(statement)
    (found,) = _statements(tmp_path / "a.py")
    assert _parts(found) == parts
