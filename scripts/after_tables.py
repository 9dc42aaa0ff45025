"""Tables of docs/check.md, docs/downstream.md and docs/generation.md, from the rows checked in."""

from pathlib import Path
from typing import Any

from editcollapse.catalog.editors import editor_title
from editcollapse.forecast.verdicts import in_words
from editcollapse.judging.findings import CheckFindings
from editcollapse.rows.collapse_rule import DEFAULT_RULE
from scripts.markdown import cell, table
from scripts.queries import ask_own
from storage.readers import check_findings


def checks(results: Path) -> str:
    """Return what checks found, a line an edited model."""
    head = (
        *("BASE", "EDITED", "tensors that differ", "largest change on text"),
        *("perplexity before, after", "verdict", "forecast alone"),
    )
    named = ask_own(results, "checks").rows()
    return table(
        head,
        (_check(name, check_findings(results, check_id, name)) for check_id, name in named),
    )


def _check(name: str, found: CheckFindings) -> tuple[str, ...]:
    """Return the line of a check, by the default rule."""
    largest = found.largest
    texts = [DEFAULT_RULE.perplexity_of(each) for each in (found.before, found.after) if each]
    return (
        f"`{cell(found.base)}`",
        cell(name),
        str(len(found.changes)),
        "" if largest is None else cell(largest.text_change),
        ", ".join(map(cell, texts)),
        found.verdict(DEFAULT_RULE),
        _forecast(found) if found.differs else "",
    )


def _forecast(found: CheckFindings) -> str:
    """Return a forecast, with P(collapse) where it has one."""
    said, chance = in_words(found.forecast.verdict), found.forecast.probability
    return said if chance is None else f"{said}, P {cell(round(chance.value, 3))}"


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
            for row in ask_own(results, "downstream").iter_rows(named=True)
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
            for row in ask_own(results, "answers").iter_rows(named=True)
        ),
    )
