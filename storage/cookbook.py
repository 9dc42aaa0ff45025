"""Write the recipes of docs/sql.md with their answers: ``python -m storage.cookbook``.

Each file in ``storage/recipes`` is a question, what to know about it, and its SQL. It is asked of
the demo study's rows, which are checked in, so that the page's answers are those of its queries.
"""

import argparse
import dataclasses
import math
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from storage.demo_rows import unpack
from storage.queries import ask

RECIPES = Path(__file__).parent / "recipes"
PAGE = Path(__file__).parent.parent / "docs" / "sql.md"
_BEGIN, _END = "<!-- recipes -->\n", "<!-- /recipes -->\n"
_PLACE = re.compile(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """One question."""

    question: str
    remark: str
    """What to know about the answer; may be empty."""
    sql: str


def read_recipes(folder: Path = RECIPES) -> tuple[Recipe, ...]:
    """Return the recipes in the order of their numbers."""
    return tuple(_recipe(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.sql")))


def cookbook(results: Path) -> str:
    """Return the recipes as Markdown, with the answers that a results folder gives."""
    return "\n".join(
        line
        for number, recipe in enumerate(read_recipes(), start=1)
        for line in _lines(number, recipe, ask(results, recipe.sql))
    )


def page_with(text: str, recipes: str) -> str:
    """Return the page's text with these recipes in the place of its own."""
    return _PLACE.sub(lambda _found: f"{_BEGIN}\n{recipes}\n{_END}", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or with ``--check`` compare it; return 1 where it is stale."""
    parser = argparse.ArgumentParser(prog="python -m storage.cookbook", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 if stale")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        unpack(results)
        recipes = cookbook(results)
    found = PAGE.read_text(encoding="utf-8")
    wanted = page_with(found, recipes)
    if not options.check:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if found == wanted:
        return 0
    sys.stderr.write(f"{PAGE} is stale. Write it again: python -m storage.cookbook\n")
    return 1


def _recipe(text: str) -> Recipe:
    """Return the recipe of a file: comment lines first, the question being the first of them."""
    lines = text.strip().splitlines()
    head = [line for line in lines if line.startswith("--")]
    question, *remark = (line.removeprefix("--").strip() for line in head)
    return Recipe(question, " ".join(remark), "\n".join(lines[len(head) :]))


def _lines(number: int, recipe: Recipe, answer: pl.DataFrame) -> Iterator[str]:
    yield f"### {number}. {recipe.question}\n"
    if recipe.remark:
        yield f"{recipe.remark}\n"
    yield f"```sql\n{recipe.sql}\n```\n"
    yield f"| {' | '.join(answer.columns)} |"
    yield f"|{'|'.join('---:' if kind.is_numeric() else '---' for kind in answer.dtypes)}|"
    for row in answer.iter_rows():
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _cell(value: Any) -> str:
    """Return a value in at most four significant figures, as text that does not end its cell.

    Line breaks become blanks: a row of the table is a line.
    """
    if value is None:
        return "NULL"
    if isinstance(value, float):
        # Sums differ in their last bits from run to run; half-way cases must not show that.
        return f"{float(f'{value:.10g}'):.4g}" if math.isfinite(value) else str(value)
    return " ".join(str(value).split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
