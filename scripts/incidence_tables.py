"""Tables of collapses in the README and docs/results.md, from the rows that are checked in."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from scripts.markdown import cell, table
from storage.ask import ask

QUERIES = Path(__file__).parent / "sql"
_COLLAPSES = ("first token", "first, several", "inside", "above 2x", "worst ratio")


def studies(results: Path, names: Sequence[str]) -> str:
    """Return a table of studies, a line a model and method."""
    found = _asked(results, "incidence")

    def rows() -> Iterator[tuple[str, ...]]:
        for study in names:
            for row in found.filter(pl.col("study") == study).iter_rows(named=True):
                yield row["model"], f"`{row['method']}`", *_collapses(row)

    return table(("model", "method", *_COLLAPSES), rows())


def real_models(results: Path) -> str:
    """Return the table of real LLMs by ROME and C-ROME, a line a model and layer."""
    first, *others = _COLLAPSES
    head = ("model", "layer", f"ROME, {first}", *others, "C-ROME, all", others[-1])
    return table(
        head,
        (
            (
                *(row["model"], str(row["layer"]), *_collapses(row)),
                *(row["c_rome"], cell(row["c_rome_worst"])),
            )
            for row in _asked(results, "real_models").iter_rows(named=True)
        ),
    )


def real_methods(results: Path) -> str:
    """Return the table of every method on real LLMs, with the efficacy of its edits."""
    head = ("model", "layer", "method", *_COLLAPSES, "efficacy, first token", "of others")
    return table(
        head,
        (
            (
                *(row["model"], str(row["layer"]), f"`{row['method']}`", *_collapses(row)),
                f"{row['bare']:.2f}, {row['prefixed']:.2f}",
                f"{row['others_bare']:.2f}, {row['others_prefixed']:.2f}",
            )
            for row in _asked(results, "real_methods").iter_rows(named=True)
        ),
    )


def _asked(results: Path, name: str) -> pl.DataFrame:
    """Return what one of our own queries gives."""
    return ask(results, (QUERIES / f"{name}.sql").read_text(encoding="utf-8"))


def _collapses(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of ``_COLLAPSES``."""
    counts = (_emphasised(row[name]) for name in ("first_token", "several", "inside"))
    return (*counts, str(row["doubled"]), cell(row["worst"]))


def _emphasised(count: str | None) -> str:
    """Return a count of collapses, such as 51 of 55, bold where there are some."""
    if count is None:
        return "-"
    return count if count.startswith("0 ") else f"**{count}**"
