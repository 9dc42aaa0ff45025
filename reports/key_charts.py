"""Charts of keys and layers: keys in two dimensions, attention sinks, layers that are safe."""

import altair as alt
import polars as pl

from reports.figures import (
    GROUPS,
    OBSERVED,
    ROW,
    SQUARE,
    VERDICTS,
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
from reports.text import count, percent
from storage.ask import StudyFigures

_VERDICTS = dict(
    zip(("n_will_collapse", "n_at_risk", "n_not_known", "n_safe"), VERDICTS, strict=True)
)
"""Columns and words."""
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
    """Return the forecast's verdicts by layer, where several layers have a forecast."""
    rows = titled(shown.layers.frame)
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
                "method would edit safely, at risk, or with collapse; not known "
                "where C has too few tokens."
            ),
            description="Shares of the forecast's verdicts by layer and method.",
            panels=tuple(
                Panel(str(method), _verdict_chart(part["layer"].n_unique()), own, model)
                for model, part in by_model(verdicts)
                for method in part["method"].unique(maintain_order=True)
                for own in [part.filter(pl.col("method") == method).drop("model", "method")]
            ),
            sql="",
            legends=(colour_legend("verdict", VERDICTS, "square"),),
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
            str(stack),
            _lines(title, ends),
            own.select(
                "layer",
                "position",
                "value",
                "low",
                "high",
                pl.col("uniform_attention").fill_nan(None),
            ),
            model,
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
            legend=alt.Legend(tickMinStep=1, format="d", gradientLength=160, columns=_LINES),
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
            color=coloured("verdict", None, VERDICTS),
            order=alt.Order("place:Q"),
            tooltip=["layer:O", "verdict:N", alt.Tooltip("share:Q", format=".1%")],
        ),
        height=ROW * max(n_layers, 2),
    )


_SOLVED = "solved"
_KINDS = {
    "bare": "k0, bare prompt",
    "prefixed": "k\N{COMBINING MACRON}, mean of prefixed prompts",
    "one_prefix": "behind one prefix",
    "first_token": "first token of the other prompts",
    _SOLVED: "C\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT ONE}k\N{COMBINING MACRON}",
}
"""Kinds of vectors as the database has them and as people read them."""
_SHAPES = ["circle", "triangle-up", "square", "cross", "diamond"]
_OBSERVED = dict(zip(("first_token", "collapsed"), OBSERVED[:2], strict=True))


def key_figures(shown: StudyFigures) -> tuple[Figure, ...]:
    """Return keys by PCA and by t-SNE, where a root-cause study was made."""
    rows = _grouped(shown.keys.frame)
    if rows.is_empty():
        return ()
    figures = [
        Figure(
            name="figure-keys-pca",
            caption=(
                "Keys in two principal components; C\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT ONE}"
                "k\N{COMBINING MACRON} in a space of its own. Shape says which key, colour which "
                f"request. {_drawn(rows)}"
            ),
            description="Keys of the requests in two principal components, by group.",
            panels=_panels(rows, "pca"),
            sql=shown.keys.sql,
            legends=_legends(rows),
        )
    ]
    embedded = rows.drop_nulls(["tsne_x", "tsne_y"])
    if embedded.height:
        figures.append(
            Figure(
                name="figure-keys-tsne",
                caption=(
                    "The same vectors by t-SNE: neighbours stay neighbours; distances and sizes of "
                    "clusters mean nothing."
                ),
                description="Keys of the requests by t-SNE, by group.",
                panels=_panels(embedded, "tsne"),
                sql=shown.keys.sql,
                legends=_legends(embedded),
            )
        )
    return tuple(figures)


def finding_figures(shown: StudyFigures) -> tuple[Figure, ...]:
    """Return the root-cause study's observations with their intervals."""
    rows = shown.anatomy.frame.filter(
        pl.all_horizontal(pl.col("value", "low", "high").is_finite())
    ).with_columns(pl.col("grouping").replace_strict(_OBSERVED, default=OBSERVED[2]).alias("group"))
    if rows.is_empty():
        return ()
    return (
        Figure(
            name="figure-findings",
            caption=(
                "Observations (point) with their 95 % intervals (line), on an axis that is linear "
                "near 0 and logarithmic beyond 1. The table says what each number means."
            ),
            description="Observations of the root-cause study, with 95 % intervals.",
            panels=tuple(
                Panel(
                    label,
                    _observations(part["observation"].n_unique()),
                    part.select("observation", "group", "value", "low", "high", "statement"),
                )
                for label, part in _by_layer(rows)
            ),
            sql="",
            legends=(colour_legend("difference", present(rows, "group", OBSERVED)),),
        ),
    )


def _grouped(rows: pl.DataFrame) -> pl.DataFrame:
    """Return points with ``group`` and ``kind`` in words."""
    first, collapsed = pl.col("is_first_token"), pl.col("is_collapsed")
    one, two, three, four, five = map(pl.lit, GROUPS)
    return rows.with_columns(
        pl.when(first & collapsed)
        .then(one)
        .when(first & ~collapsed)
        .then(two)
        .when(first)
        .then(three)
        .when(collapsed)
        .then(four)
        .otherwise(five)
        .alias("group"),
        pl.col("kind").replace_strict(_KINDS, default="another kind").alias("named_kind"),
    )


def _drawn(rows: pl.DataFrame) -> str:
    """Return how many requests are drawn."""
    looked_at = int(rows.unique(["model", "layer"])["n_requests"].sum())
    n_drawn = rows.unique(["model", "layer", "request_id"]).height
    return f"{count(n_drawn)} of {count(looked_at)} requests drawn."


def _by_layer(rows: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Return each model and layer with its rows."""
    return [
        (f"{model}, layer {layer}", part.filter(pl.col("layer") == layer))
        for model, part in by_model(rows)
        for layer in part["layer"].unique(maintain_order=True)
    ]


def _panels(rows: pl.DataFrame, space: str) -> tuple[Panel, ...]:
    """Return two panels a model: keys, and what C makes of them."""
    groups = present(rows, "group", GROUPS)
    panels = []
    for label, part in _by_layer(rows):
        for is_solved in (False, True):
            own = part.filter((pl.col("kind") == _SOLVED) == is_solved)
            if own.is_empty():
                continue
            drawn = own.select(
                "named_kind",
                "group",
                pl.col(f"{space}_x").alias("x"),
                pl.col(f"{space}_y").alias("y"),
            )
            what = _KINDS[_SOLVED] if is_solved else "keys"
            titles = _titles(own, space, "solved" if is_solved else "keys")
            kinds = present(own, "named_kind", _KINDS.values())
            panels.append(Panel(what, _points(groups, kinds, titles), drawn, label))
    return tuple(panels)


def _legends(rows: pl.DataFrame) -> tuple[Legend, ...]:
    """Return what colours and symbols of keys mean."""
    shapes = dict(zip(_KINDS.values(), _SHAPES, strict=True))
    kinds = present(rows, "named_kind", _KINDS.values())
    return (
        colour_legend("request", present(rows, "group", GROUPS)),
        Legend("key", tuple(Entry(kind, "soft", shapes[kind]) for kind in kinds)),
    )


def _titles(part: pl.DataFrame, space: str, variance: str) -> tuple[str, str]:
    """Return the titles of both axes, with the share of the variance along each by PCA."""
    if space != "pca":
        return "t-SNE 1", "t-SNE 2"
    across, up = (part[f"{variance}_variance_{axis}"][0] for axis in "xy")
    return f"component 1 ({percent(across)})", f"component 2 ({percent(up)})"


def _points(groups: list[str], kinds: list[str], titles: tuple[str, str]) -> AnyChart:
    shapes = dict(zip(_KINDS.values(), _SHAPES, strict=True))
    return charted(
        alt.Chart(named_data())
        .mark_point(size=30, opacity=0.7)
        .encode(
            x=alt.X("x:Q", title=titles[0], scale=alt.Scale(zero=False), axis=_bare()),
            y=alt.Y("y:Q", title=titles[1], scale=alt.Scale(zero=False), axis=_bare()),
            color=coloured("group", "request", groups, columns=1),
            shape=alt.Shape(
                "named_kind:N",
                title="key",
                scale=alt.Scale(domain=list(shapes), range=list(shapes.values())),
                legend=alt.Legend(values=kinds, columns=1, labelLimit=320),
            ),
            tooltip=[
                alt.Tooltip("group:N", title="request"),
                alt.Tooltip("named_kind:N", title="key"),
            ],
        ),
        height=SQUARE,
    )


def _bare() -> alt.Axis:
    return alt.Axis(labels=False, ticks=False, grid=False, titlePadding=8)


def _observations(n_lines: int) -> AnyChart:
    base = alt.Chart(named_data()).encode(
        y=alt.Y("observation:N", sort=None, title=None),
        yOffset=alt.YOffset("group:N"),
        color=coloured("group", None, OBSERVED[:2]),
        tooltip=["statement:N", "value:Q", "low:Q", "high:Q"],
    )
    across = alt.Scale(type="symlog", zero=False)
    reach = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=None, scale=across), x2="high:Q"
    )
    point = base.mark_point(filled=True, size=60, opacity=1).encode(x=alt.X("value:Q", title=None))
    return charted(reach, point, height=ROW * 2 * n_lines)
