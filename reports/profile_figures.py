"""Figures by layer: the attention sink at the first position, and where edits would be safe."""

import altair as alt
import polars as pl

from reports.figures import (
    ROW,
    SQUARE,
    AnyChart,
    Figure,
    Panel,
    by_model,
    charted,
    log_axis,
    named_data,
    reach_of,
)
from storage.figures import StudyFigures

_VERDICTS = {
    "n_will_collapse": "will collapse",
    "n_at_risk": "at risk",
    "n_safe": "safe",
}
_LINES = 6
"""Layers that are drawn of a model; of more, so many from the first to the last."""


def profile_figures(shown: StudyFigures) -> tuple[Figure, ...]:
    """Return residual norm and attention received, by position and layer."""
    rows = _some_layers(shown.profiles.frame)
    if rows.is_empty():
        return ()
    return (
        Figure(
            name="figure-norms",
            caption=(
                "Norm of the residual stream by position in the text, a line a block, with the "
                "95 % interval of its mean over texts. Logarithmic. Decoders and encoders apart."
            ),
            description="Residual norms by position; a decoder's first position stands out.",
            panels=_position_panels(rows, "residual_norm", "residual norm", log=True),
            sql=shown.profiles.sql,
        ),
        Figure(
            name="figure-attention",
            caption=(
                "Attention that later tokens give to each position, mean over heads, with its 95 % "
                "interval; dashed is what it were if every token looked at all tokens alike."
            ),
            description="Attention received by position; a decoder's first position stands out.",
            panels=_position_panels(
                rows.drop_nulls("attention"), "attention", "attention received", log=False
            ),
            sql="",
        ),
    )


def layer_figures(shown: StudyFigures) -> tuple[Figure, ...]:
    """Return the forecast's verdicts by layer, where several layers were foreseen."""
    rows = shown.layers.frame
    if rows.is_empty():
        return ()
    verdicts = pl.concat(
        rows.select(
            "model",
            "method",
            "layer",
            pl.lit(word).alias("verdict"),
            pl.lit(order).alias("place"),
            (pl.col(column) / pl.col("n_forecasts")).alias("share"),
        )
        for order, (column, word) in enumerate(_VERDICTS.items())
    )
    return (
        Figure(
            name="figure-layers",
            caption=(
                "Forecast by layer, no edit being made: share of the study's requests that each "
                "method would edit safely, at risk, or with collapse."
            ),
            description="Shares of the forecast's verdicts by layer and method.",
            panels=tuple(
                Panel(f"{model}, {method}", _verdict_chart(part["layer"].n_unique()), own)
                for model, part in by_model(verdicts)
                for method in part["method"].unique(maintain_order=True)
                for own in [part.filter(pl.col("method") == method).drop("model", "method")]
            ),
            sql="",
        ),
    )


def _some_layers(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of a few layers of each model, first and last among them."""
    kept = []
    for _, part in by_model(rows):
        layers = part["layer"].unique().sort().to_list()
        last = len(layers) - 1
        chosen = {layers[round(each * last / (_LINES - 1))] for each in range(_LINES)}
        kept.append(part.filter(pl.col("layer").is_in(sorted(chosen))))
    return pl.concat(kept) if kept else rows


def _position_panels(
    rows: pl.DataFrame, column: str, title: str, *, log: bool
) -> tuple[Panel, ...]:
    """Return a panel for each model and stack."""
    value, low, high = (pl.col(f"{column}{end}") for end in ("", "_low", "_high"))
    # An interval's lower end may be negative, where a logarithm has no place for it.
    floor = pl.min_horizontal(value, pl.max_horizontal(low, value / 10)) if log else low
    drawn = rows.with_columns(value.alias("value"), floor.alias("low"), high.alias("high"))
    finite = drawn.filter(pl.all_horizontal(pl.col("value", "low", "high").is_finite()))
    ends = reach_of(pl.concat([finite["low"], finite["high"]])) if log else None
    return tuple(
        Panel(
            f"{model}, {stack}",
            _lines(title, ends),
            own.select(
                "layer",
                "position",
                "value",
                "low",
                "high",
                pl.col("uniform_attention").fill_nan(None),
            ),
        )
        for model, part in by_model(finite)
        for stack in part["stack"].unique(maintain_order=True)
        for own in [part.filter(pl.col("stack") == stack)]
    )


def _lines(title: str, ends: tuple[float, float] | None) -> AnyChart:
    """Return a chart of values by position; logarithmic between ``ends``, linear without."""
    base = alt.Chart(named_data()).encode(
        x=alt.X("position:Q", title="position (from 0)", axis=alt.Axis(tickMinStep=1, format="d")),
        color=alt.Color(
            "layer:Q",
            title="block (from 0)",
            legend=alt.Legend(tickMinStep=1, format="d", gradientLength=160),
        ),
        detail="layer:N",
        tooltip=["layer:O", "position:Q", "value:Q", "low:Q", "high:Q"],
    )
    low, value = (
        log_axis("y", column, title, ends) if ends else alt.Y(f"{column}:Q", title=title)
        for column in ("low", "value")
    )
    reach = base.mark_rule(strokeWidth=1, opacity=0.7).encode(y=low, y2="high:Q")
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=18)).encode(y=value)
    if ends:
        return charted(reach, line, height=SQUARE)
    alike = (
        alt.Chart(named_data())
        .mark_line(strokeDash=[4, 4], strokeWidth=1.5)
        .encode(x=alt.X("position:Q"), y=alt.Y("mean(uniform_attention):Q"))
    )
    return charted(alike, reach, line, height=SQUARE)


def _verdict_chart(n_layers: int) -> AnyChart:
    words = [*_VERDICTS.values()]
    return charted(
        alt.Chart(named_data())
        .mark_bar()
        .encode(
            x=alt.X(
                "share:Q",
                title=None,
                stack="zero",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format=".0%"),
            ),
            y=alt.Y("layer:O", title="layer (from 0)"),
            color=alt.Color(
                "verdict:N",
                title=None,
                scale=alt.Scale(domain=words),
            ),
            order=alt.Order("place:Q"),
            tooltip=["layer:O", "verdict:N", alt.Tooltip("share:Q", format=".1%")],
        ),
        height=ROW * max(n_layers, 2),
    )
