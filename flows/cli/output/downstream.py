"""Downstream tasks on the terminal: a line a model and task, then how scores go with perplexity."""

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from editcollapse.cli.console import console, plain, print_text
from editcollapse.cli.tables import Column, print_table
from flows.cli.output.answers import COLLAPSED
from flows.cli.output.incidence import limits

if TYPE_CHECKING:
    from editcollapse.rows.collapse_rule import CollapseRule
    from storage.downstream import DownstreamCorrelation, DownstreamScore

_SCORES = (
    Column("model"),
    Column("task"),
    Column("metric"),
    Column("unedited", is_number=True),
    Column("collapsed", is_number=True),
    Column("other edits", is_number=True),
    Column("items", is_number=True),
)
_CORRELATIONS = (
    Column("model"),
    Column("task"),
    Column("metric"),
    Column("edits", is_number=True),
    Column("with perplexity", is_number=True),
    Column("with change on text", is_number=True),
)
_SURROGATES = ("perplexity_ratio", "text_change")
_UNKNOWN = "-"


def print_downstream(
    scores: "Sequence[DownstreamScore]",
    correlations: "Sequence[DownstreamCorrelation]",
    rule: "CollapseRule",
) -> None:
    """Print medians of scores before and after edits, then rank correlations.

    Args:
        scores: in the order to be printed.
        correlations: likewise.
        rule: what the edits were judged by.
    """
    screen = console()
    print_text(f"downstream scores ({limits(rule)})")
    print_text(
        "medians over the edits that were asked, smallest to largest, and how many these are"
    )
    print_table(_SCORES, list(_score_lines(scores)), screen)
    if correlations:
        print_text("\nSpearman's correlation of the score with the damage, with its 95 % interval")
        print_table(_CORRELATIONS, list(_correlation_lines(correlations)), screen)


def _score_lines(scores: "Sequence[DownstreamScore]") -> Iterable[list[Text]]:
    keys = [_key(row) for row in scores if row.kind != "exported"]
    for key in dict.fromkeys(keys):
        own = [row for row in scores if row.kind != "exported" and _key(row) == key]
        edited = [row for row in own if row.kind != "unedited"]
        before = next((row.score for row in own if row.kind == "unedited"), None)
        fallen = [row for row in edited if row.collapsed]
        yield [
            *map(plain, key),
            Text(_number(before)),
            Text(_spread(fallen), style=COLLAPSED if fallen else ""),
            Text(_spread([row for row in edited if not row.collapsed])),
            Text(str(own[0].n_samples)),
        ]
    for row in scores:
        if row.kind == "exported":
            found = Text(_number(row.score))
            yield [
                plain(row.label),
                plain(row.task),
                plain(_metric(row.metric, row.filter)),
                *(Text(_UNKNOWN), Text(_UNKNOWN), found, Text(str(row.n_samples))),
            ]


def _correlation_lines(rows: "Sequence[DownstreamCorrelation]") -> Iterable[list[Text]]:
    def key(row: "DownstreamCorrelation") -> tuple[str, str, str, int | None]:
        return (row.model, row.task, _metric(row.metric, row.filter), row.n_shot)

    for each in dict.fromkeys(map(key, rows)):
        own = {row.surrogate: row for row in rows if key(row) == each}
        yield [
            *map(plain, each[:3]),
            Text(str(max(row.n_edits for row in own.values()))),
            *(Text(_interval(own.get(name))) for name in _SURROGATES),
        ]


def _key(row: "DownstreamScore") -> tuple[str, str, str]:
    return (row.model or "", row.task, _metric(row.metric, row.filter))


def _metric(metric: str, kind: str) -> str:
    return metric if kind == "none" else f"{metric}, {kind}"


def _spread(rows: "Sequence[DownstreamScore]") -> str:
    """Return median, range and number of scores; of scores that are no number, how many."""
    if not rows:
        return _UNKNOWN
    known = [row.score for row in rows if row.score is not None]
    lost = len(rows) - len(known)
    unknown = f"{lost} without an answer" if lost else ""
    if not known:
        return unknown
    ends = f"{_number(min(known))} to {_number(max(known))}"
    said = f"{_number(statistics.median(known))} ({ends}; {len(known)})"
    return f"{said}, {unknown}" if unknown else said


def _interval(row: "DownstreamCorrelation | None") -> str:
    if row is None or row.spearman is None:
        return _UNKNOWN
    if row.spearman_low is None or row.spearman_high is None:
        return f"{row.spearman:.2f}"
    return f"{row.spearman:.2f} ({row.spearman_low:.2f} to {row.spearman_high:.2f})"


def _number(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.3g}"
