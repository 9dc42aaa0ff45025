"""A figure: panels, each an Altair chart and the rows that it draws, kept apart; light and dark.

Charts hold our words and numbers only. What a study says, names of its models among it, stands in
the rows, as data; and in labels, which the page escapes. So no text of a study is ever read as an
expression, a format, a link or markup.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import altair as alt
import polars as pl

from editcollapse.catalog.editors import EDITORS, editor_title
from editcollapse.catalog.methods import METHODS
from editcollapse.rows.study import POSITIONS
from editcollapse.visible import visible

_FONT = "system-ui, sans-serif"
_GRIDLESS = 0.35
"""How much of the grid's colour is seen."""


@dataclasses.dataclass(frozen=True, slots=True)
class Theme:
    """Colours as hex digits, each with one meaning in every figure and every report."""

    name: str
    ink: str
    soft: str
    line: str
    ground: str
    panel: str
    mark: str
    calm: str
    quiet: str
    risk: str
    first: str
    several: str
    inside: str
    unknown: str
    ramp: tuple[str, ...]
    """Of amounts, from small to large."""


LIGHT = Theme(
    name="light",
    ink="#1d2330",
    soft="#5b6577",
    line="#d9dee7",
    ground="#fff",
    panel="#f4f6fa",
    mark="#c2410c",
    calm="#2563a8",
    quiet="#7c8aa0",
    risk="#a16207",
    first="#8b3fb0",
    several="#0b8f7a",
    inside="#2563a8",
    unknown="#4b5563",
    ramp=("#f0a14a", "#d9486b", "#8b3a9e", "#2b2a7a"),
)
DARK = Theme(
    name="dark",
    ink="#e6e9f0",
    soft="#a2acbd",
    line="#39414f",
    ground="#14181f",
    panel="#1d232d",
    mark="#fb923c",
    calm="#7db4f0",
    quiet="#8592a8",
    risk="#e8cf6a",
    first="#d8a8f0",
    several="#4fd1b5",
    inside="#7db4f0",
    unknown="#c3cad6",
    ramp=("#6f63d9", "#b65fd0", "#f0709a", "#ffd08a"),
)
THEMES = (LIGHT, DARK)
ROLES = tuple(
    field.name for field in dataclasses.fields(Theme) if field.name not in {"name", "ramp"}
)
"""What the colours of a theme are for."""

METHOD_TITLES = tuple(method.title for method in METHODS.values())
_METHOD_SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down")
_METHOD_DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [4, 4])

UNKNOWN_PLACE = "not known"
PLACES = (*POSITIONS.values(), UNKNOWN_PLACE)
"""Places of the subject in the order of the legend."""
OUTCOMES = ("collapsed", "not collapsed")
VERDICTS = ("likely to collapse", "at risk", "not known", "safe")
SHARES = ("collapses", "works")
"""What a share is good or bad for."""
GROUPS = (
    "subject ends at the first token, collapsed",
    "subject ends at the first token, not collapsed",
    "subject ends at the first token",
    "subject ends later, collapsed",
    "subject ends later",
)
"""Requests by where their subject ends, and whether ROME collapsed."""
OBSERVED = ("by first token", "by collapse", "by another group")
SKILLS = (
    "flagged that collapsed",
    "collapsed that were flagged",
    "likely to collapse that did",
    "collapsed, called likely to",
)
"""Precision and recall of the verdict at risk or worse, then of likely to collapse."""
TRIALS = ("best", "without a tuning", "tried")
"""Settings that a tuning has tried."""
MOMENTS = ("right after the edit", "at the end")
"""When an edit of a sequence is asked for."""
_EDITOR_LINES = {
    **dict(zip(METHODS, (("calm", dash) for dash in _METHOD_DASHES), strict=True)),
    "memit": ("first", [1, 0]),
    "memit_seq": ("first", [7, 3]),
    "emmet": ("first", [2, 2]),
    "alphaedit": ("several", [1, 0]),
    "nas": ("several", [7, 3]),
    "rect": ("unknown", [1, 0]),
    "prune": ("unknown", [7, 3]),
    "encore": ("unknown", [2, 2]),
    "ft": ("risk", [1, 0]),
    "ft_l": ("risk", [7, 3]),
    "ft_m": ("risk", [2, 2]),
    "locft_bf": ("risk", [9, 3, 2, 3]),
}
"""Role of the colour, and dashes, of each editor's line. Families share a colour: rank one; MEMIT
and its sequential form; projections onto a null space; restraints; fine-tuning."""
_EDITORS_BY_TITLE = {editor_title(name): name for name in (*METHODS, *EDITORS)}
_ROLES = {
    **dict(zip(PLACES, ("first", "several", "inside", "unknown"), strict=True)),
    **dict(zip(OUTCOMES, ("mark", "quiet"), strict=True)),
    **dict(zip(VERDICTS, ("mark", "risk", "unknown", "quiet"), strict=True)),
    **dict(zip(SHARES, ("mark", "calm"), strict=True)),
    **dict(zip(GROUPS, ("mark", "first", "unknown", "risk", "inside"), strict=True)),
    **dict(zip(OBSERVED, ("first", "mark", "unknown"), strict=True)),
    **dict(zip(SKILLS, ("risk", "several", "mark", "inside"), strict=True)),
    **dict(zip(TRIALS, ("mark", "first", "quiet"), strict=True)),
    **dict(zip(MOMENTS, ("calm", "risk"), strict=True)),
    **{title: _EDITOR_LINES[name][0] for title, name in _EDITORS_BY_TITLE.items()},
}
"""What a word's colour is called in a theme: one colour for a word, wherever it is drawn."""


def figure_config(theme: Theme) -> dict[str, object]:
    """Return Vega-Lite's configuration for a look; charts themselves name no colour.

    Source: https://vega.github.io/vega-lite/docs/config.html
    """
    words = {"labelColor": theme.soft, "titleColor": theme.ink, "titleFontWeight": "normal"}
    return {
        "background": "transparent",
        "font": _FONT,
        "axis": {
            **words,
            "domainColor": theme.line,
            "gridColor": theme.line,
            "gridOpacity": _GRIDLESS,
            "labelLimit": 150,
            "tickColor": theme.line,
        },
        "legend": {
            **words,
            "labelLimit": 220,
            "orient": "bottom",
            "columns": 3,
            "layout": {"bottom": {"direction": "vertical", "anchor": "start"}},
        },
        "line": {"color": theme.calm},
        "mark": {"color": theme.calm},
        "range": {
            "category": [getattr(theme, role) for role in _ROLES.values()],
            "ramp": list(theme.ramp),
            "heatmap": list(theme.ramp),
        },
        "rule": {"color": theme.soft},
        "text": {"color": theme.ink},
        "view": {"stroke": theme.line},
    }


ROWS = "rows"
"""What charts call their data."""
SQUARE = 260
"""Height of a panel with two continuous axes, in pixels."""
ROW = 22
"""Height of a line of a panel with names along its side, in pixels."""
_FIGURES = 4
"""Digits that are drawn."""
_MANY = 800
"""Rows from which on a panel is painted: that many elements make a page slow."""

AnyChart = alt.Chart | alt.LayerChart


@dataclasses.dataclass(frozen=True, slots=True)
class Panel:
    """One chart."""

    label: str
    """What it shows, such as a model, as the study says it; empty where it is the only one."""
    chart: AnyChart
    """Its data are called ``ROWS``; it names no colour: the page's look gives them."""
    rows: pl.DataFrame
    """What is drawn: text, booleans and finite numbers."""
    model: str = ""
    """Panels of one model stay together; empty where a model has one panel only."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A line of a legend: words of ours."""

    word: str
    role: str
    """What its colour is called in a theme."""
    shape: str
    """One of Vega's, or ``line``."""
    dash: str = ""
    """Of a line: lengths drawn and left out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Legend:
    """What a figure's colours or its symbols mean, said once for all of its panels."""

    title: str
    entries: tuple[Entry, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One picture of a report."""

    name: str
    caption: str
    description: str
    """What is to be seen where it cannot be seen."""
    panels: tuple[Panel, ...]
    sql: str
    """Gives the rows; empty where the section's SQL does."""
    legends: tuple[Legend, ...] = ()
    """Stand above the panels; without, each panel has its own."""

    @property
    def by_model(self) -> tuple[tuple[str, tuple[Panel, ...]], ...]:
        """Panels that stay together, with their model; all under no name where none has two."""
        models = list(dict.fromkeys(panel.model for panel in self.panels))
        if len(models) == len(self.panels):
            return (("", tuple(map(_labelled, self.panels))),)
        return tuple(
            (model, tuple(panel for panel in self.panels if panel.model == model))
            for model in models
        )


def _labelled(panel: Panel) -> Panel:
    """Return a panel whose label names its model."""
    label = ", ".join(part for part in (panel.model, panel.label) if part)
    return dataclasses.replace(panel, label=label, model="")


def coloured(
    field: str, title: str | None, words: Sequence[str], *, columns: int | None = None
) -> alt.Color:
    """Return a colour channel of words of ours, each in the colour that it has everywhere.

    Args:
        field: the column of words.
        title: of the legend.
        words: those that are drawn, in the legend's order.
        columns: of the legend where the chart draws it itself; left out, as the look has it.
    """
    return alt.Color(
        f"{field}:N",
        title=title,
        scale=alt.Scale(domain=list(_ROLES)),
        legend=alt.Legend(
            values=list(words),
            labelLimit=320,
            columns=alt.Undefined if columns is None else columns,
        ),
    )


def alike() -> alt.Color:
    """Return the colour channel of marks that need no legend: the word is in column ``word``."""
    return alt.Color("word:N", scale=alt.Scale(domain=list(_ROLES)), legend=None)


def shaped(titles: Sequence[str]) -> alt.Shape:
    """Return the shape channel of methods: one symbol for a method, in every report."""
    return alt.Shape(
        "method:N",
        scale=alt.Scale(domain=list(METHOD_TITLES), range=list(_METHOD_SHAPES)),
        legend=alt.Legend(values=_known(titles)),
    )


def dashed(titles: Sequence[str]) -> alt.StrokeDash:
    """Return the dashes of methods, likewise."""
    return alt.StrokeDash(
        "method:N",
        scale=alt.Scale(domain=list(METHOD_TITLES), range=list(_METHOD_DASHES)),
        legend=alt.Legend(values=_known(titles)),
    )


def colour_legend(title: str, words: Sequence[str], shape: str = "circle") -> Legend:
    """Return the legend of words of ours."""
    return Legend(title, tuple(Entry(word, _ROLES[word], shape) for word in words))


def shape_legend(titles: Sequence[str]) -> Legend:
    """Return the legend of methods by their symbols."""
    shapes = dict(zip(METHOD_TITLES, _METHOD_SHAPES, strict=True))
    return Legend("method", tuple(Entry(each, "soft", shapes[each]) for each in _known(titles)))


def dash_legend(titles: Sequence[str]) -> Legend:
    """Return the legend of methods by their dashes."""
    dashes = dict(zip(METHOD_TITLES, _METHOD_DASHES, strict=True))
    return Legend(
        "method",
        tuple(
            Entry(each, "calm", "line", " ".join(map(str, dashes[each]))) for each in _known(titles)
        ),
    )


def editor_dashed(titles: Sequence[str]) -> alt.StrokeDash:
    """Return the dashes of editors, whose titles are in column ``word``: one for an editor."""
    dashes = {title: _EDITOR_LINES[name][1] for title, name in _EDITORS_BY_TITLE.items()}
    return alt.StrokeDash(
        "word:N",
        title="editor",
        # Words and legend are those of the colours: the two are drawn as one.
        scale=alt.Scale(domain=list(_ROLES), range=[dashes.get(word, [1, 0]) for word in _ROLES]),
        legend=alt.Legend(values=list(titles), labelLimit=320),
    )


def filled() -> alt.Fill:
    """Return the fill of bands whose lines have a legend: the word is in column ``word``."""
    return alt.Fill("word:N", scale=alt.Scale(domain=list(_ROLES)), legend=None)


def editor_legend(titles: Sequence[str]) -> Legend:
    """Return the legend of editors by colour and dashes; those that the catalog has."""
    lines = [(title, _EDITOR_LINES[_EDITORS_BY_TITLE[title]]) for title in titles]
    return Legend(
        "editor",
        tuple(
            Entry(title, role, "line", " ".join(map(str, dash))) for title, (role, dash) in lines
        ),
    )


def editors_in(rows: pl.DataFrame) -> list[str]:
    """Return the titles of the editors of some rows, in the catalog's order."""
    return present(rows, "word", _EDITORS_BY_TITLE)


def editors_titled(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with ``editor`` as papers write it, and ``word``, the title of its ``method``."""
    return rows.with_columns(
        pl.col("editor").map_elements(editor_title, return_dtype=pl.String),
        pl.col("method").map_elements(editor_title, return_dtype=pl.String).alias("word"),
    )


def _known(titles: Sequence[str]) -> list[str]:
    """Return those of some methods that the catalog has, in its order."""
    return [title for title in METHOD_TITLES if title in titles]


def titled(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with their methods as papers write them."""
    return rows.with_columns(pl.col("method").map_elements(editor_title, return_dtype=pl.String))


def charted(*layers: alt.Chart, height: int) -> AnyChart:
    """Return charts laid over each other, as wide as their place in the page."""
    whole: Any = layers[0] if len(layers) == 1 else alt.layer(*layers)
    sized: AnyChart = whole.properties(width="container", height=height)
    return sized


def named_data() -> alt.NamedData:
    """Return the data of a chart, which come with its panel."""
    return alt.NamedData(name=ROWS)


def specification(panel: Panel) -> dict[str, object]:
    """Return a panel's Vega-Lite specification, without its rows."""
    spec: dict[str, object] = panel.chart.to_dict(validate=False)
    # The looks of the page are its configuration; the schema is an address nobody needs.
    return {key: value for key, value in spec.items() if key not in {"config", "$schema"}}


def panel_json(panel: Panel) -> str:
    """Return a panel for the page's script: specification, rows by column, how to draw it.

    Raises:
        ValueError: a number of the rows is not finite; this is our own mistake.
    """
    rows = drawable(panel.rows)
    return json.dumps(
        {
            "spec": specification(panel),
            "columns": rows.to_dict(as_series=False),
            "renderer": "canvas" if rows.height > _MANY else "svg",
        },
        allow_nan=False,
        separators=(",", ":"),
    )


def drawable(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with hidden characters of their texts shown, and numbers of few digits."""
    return rows.with_columns(
        pl.col(pl.String).map_elements(visible, return_dtype=pl.String),
        pl.col(pl.Float64).round_sig_figs(_FIGURES),
    )


def by_model(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each model's name with its rows, in the order of the rows."""
    for model in rows["model"].unique(maintain_order=True):
        yield str(model), rows.filter(pl.col("model") == model)


def places_named(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with ``place``, the position of the subject in words."""
    named = pl.col("subject_position").replace_strict(POSITIONS, default=UNKNOWN_PLACE)
    return rows.with_columns(named.alias("place"))


def present(rows: pl.DataFrame, column: str, order: Iterable[str]) -> list[str]:
    """Return those of some words of ours that a column has, in their order."""
    found = set(rows[column])
    return [word for word in order if word in found]


def reach_of(values: pl.Series) -> tuple[float, float]:
    """Return the powers of ten around all finite positive numbers; 1 to 10 where there is none."""
    known = values.filter(values.is_finite() & (values > 0))
    if known.is_empty():
        return 1.0, 10.0
    low, high = (math.log10(float(end)) for end in (known.min(), known.max()))  # type: ignore[arg-type]  # they are floats
    return 10.0 ** math.floor(low), 10.0 ** max(math.ceil(high), math.floor(low) + 1)


def log_axis(channel: str, column: str, title: str, ends: tuple[float, float]) -> alt.X | alt.Y:
    """Return a logarithmic axis between powers of ten, with ticks at those there is room for."""
    low, high = (round(math.log10(end)) for end in ends)
    step = max(1, -(-(high - low) // 6))
    made = alt.X if channel == "x" else alt.Y
    return made(
        f"{column}:Q",
        title=title,
        scale=alt.Scale(type="log", domain=list(ends), nice=False),
        axis=alt.Axis(values=[10.0**power for power in range(low, high + 1, step)], format="~g"),
    )
