"""The report's two looks, light and dark: the page's colours, and those of the figures in it."""

import dataclasses

_FONT = "system-ui, sans-serif"
_GRIDLESS = 0.35
"""How much of the grid's colour is seen."""


@dataclasses.dataclass(frozen=True, slots=True)
class Theme:
    """Colours as hex digits. Neighbours in ``marks`` differ in lightness too, not in hue alone."""

    name: str
    ink: str
    soft: str
    line: str
    ground: str
    panel: str
    mark: str
    calm: str
    marks: tuple[str, ...]
    """Of categories, in the order of a legend."""
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
    marks=("#c2410c", "#2563a8", "#0b8f7a", "#8b4fa8", "#97740a", "#4b5563"),
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
    marks=("#fb923c", "#7db4f0", "#4fd1b5", "#d8a8f0", "#e8cf6a", "#c3cad6"),
    ramp=("#6f63d9", "#b65fd0", "#f0709a", "#ffd08a"),
)
THEMES = (LIGHT, DARK)


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
            "category": list(theme.marks),
            "ramp": list(theme.ramp),
            "heatmap": list(theme.ramp),
        },
        "rule": {"color": theme.soft},
        "view": {"stroke": theme.line},
    }
