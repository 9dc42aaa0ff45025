"""Tables of collapses in the README and docs/results.md, from the rows that are checked in."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from scripts.markdown import cell, table
from storage.ask import ask

INCIDENCE = Path(__file__).parent / "sql" / "incidence.sql"
_REAL = ("real", "real_layers", "gemma", "gemma_layers")
"""Studies of real LLMs."""
_COLLAPSES = ("first token", "first, several", "inside", "above 2x", "worst ratio")


def studies(results: Path, names: Sequence[str]) -> str:
    """Return a table of studies, a line a model and method."""
    found = _incidence(results)

    def rows() -> Iterator[tuple[str, ...]]:
        for study in names:
            for row in found.filter(pl.col("study") == study).iter_rows(named=True):
                yield row["model"], f"`{row['method']}`", *_collapses(row, row["worst"])

    return table(("model", "method", *_COLLAPSES), rows())


def real_models(results: Path) -> str:
    """Return the table of real LLMs by ROME and C-ROME, a line a model and layer."""
    found = _of_real(results)
    keys = ["study_id", "model"]
    remedy = found.filter(method="c_rome").select(*keys, "n", "n_collapsed", "largest")
    both = found.filter(method="rome").join(
        remedy, on=keys, suffix="_c_rome", maintain_order="left"
    )
    first, *others = _COLLAPSES
    head = ("model", "layer", f"ROME, {first}", *others, "C-ROME, all", others[-1])
    return table(
        head,
        (
            (
                *(row["model"], str(row["layer"]), *_collapses(row, row["largest"])),
                f"{row['n_collapsed_c_rome']} of {row['n_c_rome']}",
                cell(row["largest_c_rome"]),
            )
            for row in both.iter_rows(named=True)
        ),
    )


def real_methods(results: Path) -> str:
    """Return the table of every method on real LLMs, with the efficacy of its edits."""
    head = ("model", "layer", "method", *_COLLAPSES, "efficacy, first token", "of others")
    return table(
        head,
        (
            (
                *(row["model"], str(row["layer"]), f"`{row['method']}`"),
                *_collapses(row, row["worst"]),
                f"{row['bare']:.2f}, {row['prefixed']:.2f}",
                f"{row['others_bare']:.2f}, {row['others_prefixed']:.2f}",
            )
            for row in _of_real(results).iter_rows(named=True)
        ),
    )


def _incidence(results: Path) -> pl.DataFrame:
    """Return a row for each study, model and method, in their order."""
    return ask(results, INCIDENCE.read_text(encoding="utf-8"))


def _of_real(results: Path) -> pl.DataFrame:
    """Return the rows of real LLMs, by model, start token and layer."""
    return (
        _incidence(results)
        .filter(pl.col("study").is_in(_REAL))
        .sort(
            pl.col("source").str.to_lowercase(),
            "start_token",
            "layer",
            descending=[True, False, False],
            nulls_last=False,
            maintain_order=True,
        )
    )


def _collapses(row: dict[str, Any], worst: float) -> tuple[str, ...]:
    """Return the cells of ``_COLLAPSES``."""
    counts = (_emphasised(row[name]) for name in ("first_token", "several", "inside"))
    return (*counts, str(row["doubled"]), cell(worst))


def _emphasised(count: str | None) -> str:
    """Return a count of collapses, such as 51 of 55, bold where there are some."""
    if count is None:
        return "-"
    return count if count.startswith("0 ") else f"**{count}**"
