"""Charts of sequences of edits: curves over the number of edits, a line an editor.

Lines are medians over the orders of the requests, bands reach from the smallest to the largest; of
the survival curves, bands are 95 % intervals. What is infinite or undefined stands at the upper
end, and the caption counts it.
"""

from collections.abc import Sequence
from typing import Literal

import altair as alt
import polars as pl

from reports.edit_charts import DASH, MARGIN, ratio_at, rule_line
from reports.figures import (
    MOMENTS,
    ROW,
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
    editor_dashed,
    editor_legend,
    editors_in,
    editors_titled,
    filled,
    log_axis,
    named_data,
    reach_of,
)
from reports.sequences import QUANTITIES
from reports.text import count
from storage.ask import StudyFigures, StudyFindings

_PERCENT = ".0%"
_BAND, _BANDS = 0.14, 0.3
"""How much of a band's colour is seen, at most, and of all bands of a panel together."""
_MEDIAN = ("median", "smallest", "largest")
_DRIFTS = (("text_change", "change on text"), ("relative_drift", "relative drift of the weights"))
"""Columns of the query, and the words over their panels."""


def survival_figure(shown: StudyFigures) -> Figure:
    """Return the share of sequences that leave the model alive: a panel a model."""
    rows = editors_titled(shown.survival.frame)
    return Figure(
        name="figure-survival",
        caption=(
            "Share of the sequences that leave the model alive after so many edits (steps: Kaplan "
            "and Meier), with 95 % intervals (bands). Points are checkpoints."
        ),
        description="Share of sequences that leave the model alive over the edits, by editor.",
        panels=tuple(
            Panel(
                model,
                _curves(
                    editors_in(part),
                    alt.Y(
                        "low:Q",
                        title="alive",
                        scale=alt.Scale(domain=[0, 1]),
                        axis=alt.Axis(format=_PERCENT),
                    ),
                    "step-after",
                    alt.Tooltip("at_risk:Q", title="at risk"),
                ),
                part.select(
                    "editor",
                    "word",
                    "n_edits",
                    "at_risk",
                    pl.col("alive").alias("middle"),
                    pl.col("lower").alias("low"),
                    pl.col("upper").alias("high"),
                    _said("alive"),
                ),
            )
            for model, part in by_model(rows)
        ),
        sql=shown.survival.sql,
        legends=(editor_legend(editors_in(rows)),),
    )


def sequence_perplexity_figure(shown: StudyFigures) -> Figure:
    """Return the ratio of perplexities over the edits, logarithmic: a panel a model."""
    rows = editors_titled(shown.sequence_perplexity.frame)
    limits = pl.Series([ratio_at(part, shown.rule) for _, part in by_model(rows)], dtype=pl.Float64)
    ends = _ends(rows, _MEDIAN, MARGIN * limits.drop_nulls())
    panels = []
    for model, part in by_model(rows):
        titles, at = editors_in(part), ratio_at(part, shown.rule)
        curves = _curves(
            titles,
            log_axis("y", "low", "perplexity after / before", ends),
            "linear",
            alt.Tooltip("n_orders:Q", title="orders"),
            under=[] if at is None else [rule_line("y", at, "editor", titles)],
        )
        panels.append(Panel(model, curves, _brought(part, _MEDIAN, ends)))
    return Figure(
        name="figure-sequence-perplexity",
        caption=(
            "Factor by which perplexity grows over the edits: median over the orders (line) and "
            "range (band), logarithmic. Above the dashed line the model counts as collapsed."
            f"{_odd(rows, 'median')}"
        ),
        description="Perplexity after the edits over that before, over the edits, by editor.",
        panels=tuple(panels),
        sql=shown.sequence_perplexity.sql,
        legends=(
            editor_legend(editors_in(rows)),
            Legend("line", (Entry("rule of collapse", "mark", "line", DASH),)),
        ),
    )


def drift_figure(shown: StudyFigures) -> Figure:
    """Return how far the weights have moved, logarithmic: a model's panels stay together."""
    rows = editors_titled(shown.drift.frame)
    columns = {name: (name, f"{name}_low", f"{name}_high") for name, _ in _DRIFTS}
    ends = {name: _ends(rows, columns[name]) for name, _ in _DRIFTS}
    return Figure(
        name="figure-drift",
        caption=(
            "Change of the edited layers' output on text by all updates so far, largest over the "
            "layers, and norm of these updates over that of the weights; median over the orders "
            f"(line) and range (band), logarithmic.{_odd(rows, 'text_change')}"
        ),
        description="Change on text and drift of the weights over the edits, by editor.",
        panels=tuple(
            Panel(
                words,
                _curves(
                    editors_in(part),
                    log_axis("y", "low", words, ends[name]),
                    "linear",
                    alt.Tooltip("n_orders:Q", title="orders"),
                    has_points=False,
                ),
                _brought(part, columns[name], ends[name]),
                model,
            )
            for model, part in by_model(rows)
            for name, words in _DRIFTS
        ),
        sql=shown.drift.sql,
        legends=(editor_legend(editors_in(rows)),),
    )


def success_figure(found: StudyFindings) -> Figure:
    """Return scores of the same edits at two moments: a panel a model and score."""
    rows = editors_titled(
        found.sequence_success.frame.with_columns(pl.col("editor").alias("method"))
    )
    return Figure(
        name="figure-lasting",
        caption=(
            "Scores of the same edits right after they were made and at the last checkpoint of "
            "their sequence; the line between them is what later edits undo."
        ),
        description="Scores of edits right after they were made and at the end, by editor.",
        panels=tuple(
            Panel(name, _dumbbells(own.height), _moments(own), model)
            for model, part in by_model(rows)
            for name in QUANTITIES
            for own in [part.filter(pl.col("quantity") == name)]
            if own.height
        ),
        sql="",
        legends=(colour_legend("asked", MOMENTS),),
    )


def _curves(
    titles: Sequence[str],
    axis: alt.X | alt.Y,
    shape: Literal["linear", "step-after"],
    more: alt.Tooltip,
    *,
    has_points: bool = True,
    under: Sequence[alt.Chart] = (),
) -> AnyChart:
    """Return lines (column ``middle``) with bands (``low`` to ``high``) over ``n_edits``.

    Args:
        titles: of the editors that are drawn.
        axis: the vertical one, of column ``low``.
        shape: how points are joined, by one of Vega-Lite's names.
        more: what else a point says.
        has_points: whether each row has a point of its own.
        under: what is drawn below them.
    """
    colour = coloured("word", "editor", titles)
    seen = min(_BAND, _BANDS / max(len(titles), 1))
    base = alt.Chart(named_data()).encode(x=alt.X("n_edits:Q", title="edits"), detail="editor:N")
    band = base.mark_area(opacity=seen, interpolate=shape, clip=True).encode(
        y=axis, y2="high:Q", fill=filled()
    )
    told = [
        alt.Tooltip("editor:N"),
        alt.Tooltip("n_edits:Q", title="edits"),
        alt.Tooltip("said:N", title="value"),
        more,
    ]
    line = base.mark_line(interpolate=shape, strokeWidth=2, clip=True).encode(
        y=alt.Y("middle:Q"), color=colour, strokeDash=editor_dashed(titles), tooltip=told
    )
    points = base.mark_point(filled=True, size=16, opacity=1).encode(
        y=alt.Y("middle:Q"), color=colour, tooltip=told
    )
    return charted(*under, band, line, *([points] if has_points else []), height=SQUARE)


def _dumbbells(n_editors: int) -> AnyChart:
    """Return two points a line, joined."""
    base = alt.Chart(named_data()).encode(y=alt.Y("editor:N", sort=None, title=None))
    share = alt.Scale(domain=[0, 1])
    told = [
        alt.Tooltip("editor:N"),
        alt.Tooltip("word:N", title="asked"),
        alt.Tooltip("share:Q", format=".1%"),
        alt.Tooltip("n_scored:Q", title="edits"),
    ]
    between = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("immediate:Q", title=None, scale=share, axis=alt.Axis(format=_PERCENT)),
        x2="final:Q",
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("share:Q"), color=coloured("word", "asked", MOMENTS), tooltip=told
    )
    return charted(between, points, height=ROW * max(n_editors, 2))


def _moments(rows: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each editor and moment."""
    return pl.concat(
        rows.select(
            "editor",
            "immediate",
            "final",
            "n_scored",
            pl.lit(word).alias("word"),
            pl.col(column).alias("share"),
        )
        for word, column in zip(MOMENTS, ("immediate", "final"), strict=True)
    )


def _ends(rows: pl.DataFrame, columns: Sequence[str], *more: pl.Series) -> tuple[float, float]:
    """Return the ends of a logarithmic axis, with room above for what no number describes."""
    drawn = [rows[name].cast(pl.Float64) for name in columns]
    low, high = reach_of(pl.concat([*drawn, *more]))
    is_odd = any(not values.fill_null(1.0).is_finite().all() for values in drawn)
    return low, 10 * high if is_odd else high


def _brought(rows: pl.DataFrame, columns: Sequence[str], ends: tuple[float, float]) -> pl.DataFrame:
    """Return editors and edits with ``middle``, ``low``, ``high`` inside an axis, and ``said``."""
    named = zip(columns, ("middle", "low", "high"), strict=True)
    low, high = ends
    return rows.select(
        "editor",
        "word",
        "n_edits",
        "n_orders",
        *(
            pl.when(pl.col(column).is_finite())
            .then(pl.col(column).fill_nan(low).clip(low, high))
            .otherwise(high)
            .alias(name)
            for column, name in named
        ),
        _said(columns[0]),
    )


def _said(column: str) -> pl.Expr:
    """Return a number in words, as ``said``."""
    value = pl.col(column)
    return (
        pl.when(value.is_nan())
        .then(pl.lit("undefined"))
        .when(value.is_infinite())
        .then(pl.lit("infinite"))
        .otherwise(value.fill_nan(0).round_sig_figs(4).cast(pl.String))
        .alias("said")
    )


def _odd(rows: pl.DataFrame, column: str) -> str:
    """Return how many medians stand at the upper end because no number says where."""
    values = rows[column]
    n_infinite, n_undefined = int(values.is_infinite().sum()), int(values.is_nan().sum())
    parts = [
        *([f"{count(n_infinite)} infinite"] if n_infinite else []),
        *([f"{count(n_undefined)} undefined"] if n_undefined else []),
    ]
    return f" Medians at the upper end: {', '.join(parts)}." if parts else ""
