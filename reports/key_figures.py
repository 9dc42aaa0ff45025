"""Figures of the root-cause study: keys in two dimensions, and what was observed of them."""

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
    named_data,
    present,
)
from reports.wording import count, percent
from storage.figures import StudyFigures

_SOLVED = "solved"
_KINDS = {
    "bare": "k0, bare prompt",
    "prefixed": "k\N{COMBINING MACRON}, mean of prefixed prompts",
    "one_prefix": "behind one prefix",
    "first_token": "first token of the other prompts",
    _SOLVED: "C\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT ONE}k\N{COMBINING MACRON}",
}
"""Kinds of vectors as the database has them and as people read them."""
_GROUPS = (
    "subject ends at the first token, collapsed",
    "subject ends at the first token, not collapsed",
    "subject ends at the first token",
    "subject ends later, collapsed",
    "subject ends later",
)
_SHAPES = ["circle", "triangle-up", "square", "cross", "diamond"]
_OBSERVED = {"first_token": "by first token", "collapsed": "by collapse"}


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
            )
        )
    return tuple(figures)


def finding_figures(shown: StudyFigures) -> tuple[Figure, ...]:
    """Return the root-cause study's observations with their intervals."""
    rows = shown.anatomy.frame.filter(
        pl.all_horizontal(pl.col("value", "low", "high").is_finite())
    ).with_columns(
        pl.col("grouping").replace_strict(_OBSERVED, default="by another group").alias("group")
    )
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
        ),
    )


def _grouped(rows: pl.DataFrame) -> pl.DataFrame:
    """Return points with ``group`` and ``kind`` in words."""
    first, collapsed = pl.col("is_first_token"), pl.col("is_collapsed")
    one, two, three, four, five = map(pl.lit, _GROUPS)
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
    groups = present(rows, "group", _GROUPS)
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
            panels.append(Panel(f"{label}: {what}", _points(groups, kinds, titles), drawn))
    return tuple(panels)


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
            color=alt.Color(
                "group:N",
                title="request",
                scale=alt.Scale(domain=groups),
                legend=alt.Legend(columns=1, labelLimit=320),
            ),
            shape=alt.Shape(
                "named_kind:N",
                title="key",
                scale=alt.Scale(domain=kinds, range=[shapes[kind] for kind in kinds]),
                legend=alt.Legend(columns=1, labelLimit=320),
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
        color=alt.Color("group:N", title=None, scale=alt.Scale(domain=[*_OBSERVED.values()])),
        tooltip=["statement:N", "value:Q", "low:Q", "high:Q"],
    )
    across = alt.Scale(type="symlog", zero=False)
    reach = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=None, scale=across), x2="high:Q"
    )
    point = base.mark_point(filled=True, size=60, opacity=1).encode(x=alt.X("value:Q", title=None))
    return charted(reach, point, height=ROW * 2 * n_lines)
