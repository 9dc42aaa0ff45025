"""What edited models can still do: scores of downstream tasks beside perplexity."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import polars as pl

from reports.edit_charts import DASH, MARGIN, brought_in, odd, outcomes_named, ratio_at, rule_line
from reports.figures import (
    OUTCOMES,
    SQUARE,
    AnyChart,
    Entry,
    Figure,
    Legend,
    Panel,
    by_model,
    charted,
    colour_legend,
    coloured,
    log_axis,
    named_data,
    present,
    reach_of,
    titled,
)
from reports.text import Section, Table, count, number
from storage.ask import StudyFigures, StudyFindings

_SCOPE = (
    "Tasks of lm-evaluation-harness, asked of the edited model in memory; before: of the unedited "
    "model. After: medians over the edited models that were asked. Rank correlations are "
    "Spearman's over the edited models, with 95 % intervals; edits that share a subject are no "
    "independent draws, so the intervals are narrower than they should be where many do."
)
_WAY = ("metric", "filter", "n_shot", "sample_limit", "harness_version", "task_digest")
"""Columns that say how a task was asked and scored."""


def downstream(found: StudyFindings) -> Iterator[Section]:
    """Yield the part, where tasks were asked of a study's models."""
    rows = list(found.downstream.frame.iter_rows(named=True))
    if not rows:
        return
    figures = ("collapsed", "others", "before", "after a collapse", "after other edits")
    correlations = ("with perplexity (95 %)", "with the change on text (95 %)")
    yield Section(
        name="downstream",
        title="What can the model still do?",
        sentences=(_SCOPE,),
        table=Table(
            columns=("model", "task", "metric", *figures, *correlations),
            rows=tuple(
                (
                    row["model"],
                    row["task"],
                    _way(row),
                    count(row["n_collapsed"]),
                    count(row["n_others"]),
                    *(
                        number(row[name])
                        for name in ("score_before", "collapsed_score", "other_score")
                    ),
                    _correlation(row, "spearman"),
                    _correlation(row, "change_spearman"),
                )
                for row in rows
            ),
            numeric=frozenset((*figures, *correlations)),
        ),
        sql=found.downstream.sql,
    )


def _way(row: dict[str, Any]) -> str:
    """Return how a task was asked and scored: ``acc, 5 shots, 200 items at most``."""
    parts = [row["metric"]]
    if row["filter"] != "none":
        parts.append(row["filter"])
    if row["n_shot"]:
        parts.append(f"{count(row['n_shot'])} {'shot' if row['n_shot'] == 1 else 'shots'}")
    if row["sample_limit"] is not None:
        parts.append(f"{count(row['sample_limit'])} items at most")
    return ", ".join(parts)


def _correlation(row: dict[str, Any], name: str) -> str:
    """Return a rank correlation with its interval; empty where there is none."""
    if row[name] is None:
        return ""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return number(row[name]) if low is None else f"{row[name]:.2f} ({low:.2f} to {high:.2f})"


def downstream_figure(shown: StudyFigures) -> Figure:
    """Return the scores over the ratio of perplexities: a panel a model, task and metric."""
    rows = outcomes_named(titled(shown.downstream.frame))
    limits = pl.Series([ratio_at(part, shown.rule) for _, part in by_model(rows)], dtype=pl.Float64)
    ratios = pl.concat([rows["perplexity_ratio"], MARGIN * limits.drop_nulls()])
    low, high = reach_of(ratios)
    ends = (low, 10 * high if not rows["perplexity_ratio"].is_finite().all() else high)
    drawn = brought_in(rows, "perplexity_ratio", ends)
    outcomes = present(rows, "outcome", OUTCOMES)
    panels = []
    for model, part in by_model(drawn):
        for own in part.partition_by("task", *_WAY, maintain_order=True):
            first = own.row(0, named=True)
            chart = _scores(own, ratio_at(own, shown.rule), ends, outcomes)
            kept = own.select(
                "method",
                "subject",
                "outcome",
                "score",
                "score_before",
                "drawn_perplexity_ratio",
                "said_perplexity_ratio",
            )
            panels.append(Panel(f"{first['task']}: {_way(first)}", chart, kept, model))
    return Figure(
        name="figure-downstream",
        caption=(
            "Score of each edited model over the factor by which its perplexity grew "
            "(logarithmic), beside the unedited model's score (solid line) and the rule of "
            f"collapse (dashed line).{odd(rows, 'perplexity_ratio')}"
        ),
        description="Scores of downstream tasks over ratios of perplexities, by outcome.",
        panels=tuple(panels),
        sql=shown.downstream.sql,
        legends=(
            colour_legend("edits", outcomes),
            Legend(
                "lines",
                (
                    Entry("unedited model", "soft", "line"),
                    Entry("rule of collapse", "mark", "line", DASH),
                ),
            ),
        ),
    )


def _scores(
    part: pl.DataFrame, at: float | None, ends: tuple[float, float], outcomes: list[str]
) -> AnyChart:
    """Return a chart of scores of one task."""
    shares = part.select("score", "score_before").max_horizontal().max()
    is_share = isinstance(shares, float) and shares <= 1
    score = alt.Y(
        "score:Q", title="score", scale=alt.Scale(domain=[0, 1]) if is_share else alt.Scale()
    )
    across = log_axis("x", "drawn_perplexity_ratio", "perplexity after / before", ends)
    points = (
        alt.Chart(named_data())
        .mark_point(filled=True, size=50, opacity=0.75)
        .encode(
            x=across,
            y=score,
            color=coloured("outcome", "edits", outcomes),
            tooltip=[
                "method:N",
                "subject:N",
                "outcome:N",
                alt.Tooltip("score:Q", format=".3"),
                alt.Tooltip("said_perplexity_ratio:N", title="perplexity ratio"),
            ],
        )
    )
    before = alt.Chart(named_data()).mark_rule(strokeWidth=1).encode(y=alt.Y("score_before:Q"))
    lines = [] if at is None else [rule_line("x", at, "edits", outcomes)]
    return charted(before, *lines, points, height=SQUARE)
