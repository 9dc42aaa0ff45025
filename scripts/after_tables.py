"""Tables of docs/check.md, docs/downstream.md and docs/generation.md, from the rows checked in."""

from pathlib import Path
from typing import Any

from editcollapse.catalog.editors import editor_title
from scripts.markdown import cell, table
from storage.ask import ask

_QUERIES = Path(__file__).parent / "sql"


def checks(results: Path) -> str:
    """Return what checks found, a line an edited model."""
    head = (
        *("BASE", "EDITED", "tensors that differ", "largest change on text"),
        *("perplexity before, after", "verdict", "forecast alone"),
    )
    return table(
        head,
        (
            (
                f"`{cell(row['base'])}`",
                cell(row["name"]),
                str(row["n_changed"]),
                _or_nothing(row["text_change"]),
                ", ".join(
                    _or_nothing(row[name]) for name in ("perplexity_before", "perplexity")
                ).strip(", "),
                row["verdict"],
                _forecast(row),
            )
            for row in _rows(results, "checks")
        ),
    )


def _or_nothing(value: float | None) -> str:
    return "" if value is None else cell(value)


def _forecast(row: dict[str, Any]) -> str:
    """Return a forecast with P(collapse) where it has one; none where nothing differs."""
    if not row["n_changed"]:
        return ""
    said = {"will collapse": "likely to collapse"}.get(row["forecast"], row["forecast"])
    chance = row["forecast_probability"]
    return said if chance is None else f"{said}, P {cell(round(chance, 3))}"


def downstream(results: Path) -> str:
    """Return what edited models score, a line a model and task."""
    head = (
        *("model", "task", "unedited", "collapsed: median (range)", "others: median (range)"),
        "Spearman with perplexity",
    )
    return table(
        head,
        (
            (
                row["model"],
                row["task"],
                f"{row['before']:.2f}",
                _range(row, "collapsed"),
                _range(row, "others"),
                f"{row['spearman']:.2f} ({row['spearman_low']:.2f} to {row['spearman_high']:.2f})",
            )
            for row in _rows(results, "downstream")
        ),
    )


def _range(row: dict[str, Any], name: str) -> str:
    """Return how many edited models, the median of their scores, the smallest and largest."""
    return (
        f"{row[f'n_{name}']} edits: {row[name]:.2f} "
        f"({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"
    )


def answers(results: Path) -> str:
    """Return what edits achieve in free generation, a line a method and context."""
    head = (
        *("method", "context", "teacher-forced efficacy", "exact", "contains"),
        *("teacher-forced locality", "same tokens", "fluency, before"),
    )
    return table(
        head,
        (
            (
                editor_title(row["method"]),
                row["context"],
                *(f"{row[name]:.2f}" for name in ("efficacy", "exact", "contains")),
                *(f"{row[name]:.2f}" for name in ("locality", "same_tokens")),
                f"{row['fluency']:.2f}, {row['fluency_before']:.2f}",
            )
            for row in _rows(results, "answers")
        ),
    )


def _rows(results: Path, query: str) -> list[dict[str, Any]]:
    """Return a query's answer; it lies in ``sql/``."""
    sql = (_QUERIES / f"{query}.sql").read_text(encoding="utf-8")
    return list(ask(results, sql).iter_rows(named=True))
