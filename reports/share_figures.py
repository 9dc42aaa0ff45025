"""Shares with their intervals: how often edits collapse a model, how good the forecast is."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from reports.figures import (
    PLACES,
    ROW,
    SQUARE,
    AnyChart,
    Figure,
    Panel,
    by_model,
    charted,
    named_data,
    places_named,
    present,
)
from storage.figures import StudyFigures
from storage.findings import StudyFindings

_PERCENT = ".0%"
_QUANTITIES = (
    ("flagged that collapsed", "precision"),
    ("collapsed that were flagged", "recall"),
    ("will collapse that did", "certain_precision"),
    ("collapsed with will collapse", "certain_recall"),
)
"""Words and columns of the forecast's skill."""
_ALL = "(all)"


def incidence_figure(found: StudyFindings) -> Figure:
    """Return the shares of edits that collapse the model: a panel a model, a line a method."""
    rows = found.incidence.frame
    return Figure(
        name="figure-incidence",
        caption="Share of edits that collapse the model (point), 95 % Wilson interval (line).",
        description="Share of edits that collapse the model, by method, with 95 % intervals.",
        panels=tuple(
            Panel(model, interval_chart(part.height), _share_rows(part))
            for model, part in by_model(rows)
        ),
        sql="",
    )


def position_figure(found: StudyFindings) -> Figure:
    """Return the same by place of the subject."""
    rows = places_named(found.positions.frame)
    places = present(rows, "place", PLACES)
    return Figure(
        name="figure-positions",
        caption=(
            "The same by place of the subject: it is the prompt's first token, it begins there "
            "with several tokens, or it stands inside."
        ),
        description=(
            "Share of edits that collapse the model, by method and place of the subject, with 95 % "
            "intervals."
        ),
        panels=tuple(
            Panel(
                model,
                interval_chart(part.height, "place", "subject", places),
                _share_rows(part).with_columns(part["place"]),
            )
            for model, part in by_model(rows)
        ),
        sql="",
    )


def skill_figures(shown: StudyFigures) -> tuple[Figure, ...]:
    """Return the forecast's ROC curves and its precision and recall, where edits collapsed."""
    curves = shown.roc.frame
    if curves.is_empty():
        return ()
    words = [word for word, _ in _QUANTITIES]
    skill = _skill_rows(shown)
    return (
        Figure(
            name="figure-roc",
            caption=(
                "ROC curves of the forecast's bound: share of the collapsed edits that a threshold "
                "catches against the share of the others that it flags too. The diagonal is "
                "chance. Shown where some edits collapsed and some did not."
            ),
            description="ROC curves of the forecast, by model and method.",
            panels=(Panel("", _roc_chart(), curves),),
            sql=shown.roc.sql,
        ),
        Figure(
            name="figure-skill",
            caption=(
                "Precision and recall of both verdicts with 95 % Wilson intervals; flagged is at "
                "risk or worse."
            ),
            description="Precision and recall of the forecast's verdicts, with 95 % intervals.",
            panels=tuple(
                Panel(
                    "all models" if model == _ALL else model,
                    interval_chart(part.height, "quantity", "share of", words),
                    part.drop("model"),
                )
                for model, part in by_model(skill)
            ),
            sql="",
        ),
    )


def interval_chart(
    n_rows: int, group: str = "", title: str = "", order: Sequence[str] = ()
) -> AnyChart:
    """Return a chart of shares (column ``share``) and their intervals (``low``, ``high``).

    Args:
        n_rows: lines of the chart.
        group: column that the lines of a method are told apart by; empty for one line a method.
        title: what the legend calls it.
        order: its values, which are words of ours.
    """
    base = alt.Chart(named_data()).encode(
        x=alt.X(
            "low:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=_PERCENT)
        ),
        y=alt.Y("method:N", sort=None, title=None),
    )
    if group:
        base = base.encode(
            yOffset=alt.YOffset(f"{group}:N", sort=list(order)),
            color=alt.Color(
                f"{group}:N",
                title=title,
                scale=alt.Scale(domain=list(order)),
                legend=alt.Legend(columns=1, symbolType="circle", symbolOpacity=1),
            ),
        )
    said = [
        alt.Tooltip("method:N"),
        *([alt.Tooltip(f"{group}:N", title=title)] if group else []),
        alt.Tooltip("count:N", title="edits"),
        alt.Tooltip("share:Q", format=".1%"),
        alt.Tooltip("low:Q", format=".1%"),
        alt.Tooltip("high:Q", format=".1%"),
    ]
    reach = base.mark_rule(strokeWidth=2).encode(x2="high:Q", tooltip=said)
    point = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("share:Q"), tooltip=said
    )
    return charted(reach, point, height=ROW * max(n_rows, 2))


def _share_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Return method, share, interval and counts in words."""
    return rows.select(
        "method",
        "share",
        pl.col("wilson_low").alias("low"),
        pl.col("wilson_high").alias("high"),
        pl.format("{} of {}", "n_collapsed", "n_edits").alias("count"),
    )


def _skill_rows(shown: StudyFigures) -> pl.DataFrame:
    """Return a row for each model, method and quantity that is known, of methods with collapses."""
    rows = shown.skill.frame.filter(pl.col("n_collapsed") > 0)
    return pl.concat(
        rows.select(
            "model",
            "method",
            pl.lit(word).alias("quantity"),
            pl.col(column).alias("share"),
            pl.col(f"{column}_low").alias("low"),
            pl.col(f"{column}_high").alias("high"),
            pl.format("{} of {} collapsed", "n_collapsed", "n_edits").alias("count"),
        )
        for word, column in _QUANTITIES
    ).drop_nulls("share")


def _roc_chart() -> AnyChart:
    share = alt.Scale(domain=[0, 1])
    chance = (
        alt.Chart(alt.InlineData(values=[{"start": 0, "end": 1}]))
        .mark_rule(strokeDash=[3, 3], strokeWidth=1)
        .encode(x=alt.X("start:Q"), y=alt.Y("start:Q"), x2="end:Q", y2="end:Q")
    )
    curve = (
        alt.Chart(named_data())
        .mark_line(interpolate="linear", strokeWidth=2, clip=True)
        .encode(
            x=alt.X(
                "false_alarms:Q",
                title="others flagged",
                scale=share,
                axis=alt.Axis(format=_PERCENT),
            ),
            y=alt.Y(
                "caught:Q", title="collapsed caught", scale=share, axis=alt.Axis(format=_PERCENT)
            ),
            color=alt.Color("model:N", sort=None, legend=alt.Legend(columns=2)),
            strokeDash=alt.StrokeDash("method:N", sort=None, legend=alt.Legend(columns=2)),
            tooltip=["model:N", "method:N", "false_alarms:Q", "caught:Q"],
        )
    )
    return charted(chance, curve, height=SQUARE)
