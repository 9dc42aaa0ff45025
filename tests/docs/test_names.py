"""Every ``module.name`` that docs and docstrings speak of exists."""

import ast
import itertools
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("src/editcollapse", "flows", "tasks", "storage", "reports", "benchmarks", "demo", "scripts")
DOTTED = re.compile(r"(?<!`)(`{1,2})([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\(\))?\1(?!`)")
SUFFIXES = {
    "py",
    "md",
    "toml",
    "json",
    "jsonl",
    "sql",
    "yaml",
    "parquet",
    "duckdb",
    "npz",
    "html",
    "ipynb",
    "txt",
    "js",
    "safetensors",
    "lock",
    "db",
    "log",
    "cff",
}


@cache
def definitions() -> dict[str, set[str]]:
    """Return the names of every module and class of ours: what each defines or is given."""
    known: dict[str, set[str]] = {}
    for folder in OURS:
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = known.setdefault(
                path.stem if path.stem != "__init__" else path.parent.name, set()
            )
            names |= _names(tree.body)
            known.setdefault(path.parent.name, set()).add(path.stem)
            known.setdefault(path.parent.parent.name, set()).add(path.parent.name)
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    known.setdefault(node.name, set()).update(_names(node.body))
    return known


def _names(body: list[ast.stmt]) -> set[str]:
    names = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.add(ast.unparse(node.target))
        elif isinstance(node, ast.Assign):
            names |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, ast.If | ast.Try):
            names |= _names(node.body)
    return names


FOREIGN = {
    "torch",
    "sys",
    "datasets",
    "transformers",
    "prefect",
    "mom2",
    "mlp",
    "Tensor",
    "DataFrame",
    "PreTrainedModel",
    "Module",
    "State",
    "copy",
    "os",
}
"""Other projects' modules and files: their names are theirs to keep."""


@cache
def study_fields() -> dict[str, set[str]]:
    """Return the fields of every section of a study file."""
    from pydantic import BaseModel

    from editcollapse.config.spec import StudySpec

    sections: dict[str, set[str]] = {}
    for name, field in StudySpec.model_fields.items():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                sections.setdefault(name, set()).update(part.model_fields)
    return sections


@cache
def columns() -> dict[str, set[str]]:
    """Return the columns of every table and view, from the generated page of the schema."""
    found: dict[str, set[str]] = {}
    title = ""
    for line in (ROOT / "docs" / "schema.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            title = line.strip("# `")
        elif line.startswith("| `"):
            found.setdefault(title, set()).add(line.split("`")[1])
    return found


@cache
def events() -> set[str]:
    """Return the names of events, and of labels and tags, that flows give."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "flows").rglob("*.py"))
    said = (
        node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)
    )
    return {text for text in said if isinstance(text, str) and text.startswith("editcollapse.")}


def texts() -> list[tuple[str, str]]:
    """Return every page and every docstring with its file, relative to the repository."""
    pages = (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
    found = [(path, path.read_text(encoding="utf-8")) for path in pages if path.stem != "CHANGELOG"]
    for folder in OURS:
        for path in (ROOT / folder).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            said = [node.value for node in nodes if isinstance(node, ast.Expr)]
            found += [(path, str(value.value)) for value in said if isinstance(value, ast.Constant)]
    return [(path.relative_to(ROOT).as_posix(), text) for path, text in found]


def exists(name: str) -> bool:
    """Return whether a dotted name is ours: a field, column or event, or that of others."""
    parts = name.split(".")
    if parts[-1] in SUFFIXES or parts[0] in FOREIGN or name in events():
        return True
    known = (definitions(), study_fields(), columns())
    return any(
        after in names.get(before, ())
        for before, after in itertools.pairwise(parts)
        for names in known
    )


def test_every_name_exists():
    """A reader who looks a name up finds it."""
    dead = [
        f"{path}: {match.group(2)}"
        for path, text in texts()
        for match in DOTTED.finditer(text)
        if not exists(match.group(2))
    ]
    assert not dead, "\n".join(dead)


@pytest.mark.parametrize("name", ["values.no_such_function", "no_such_module.f", "edits.no_column"])
def test_a_dead_name_is_found(name):
    """The test above can fail."""
    assert not exists(name)
