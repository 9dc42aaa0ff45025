"""Numbers as people read them."""

import math

_PERCENT = 100
_UNIT = "\N{NO-BREAK SPACE}%"
_PLAIN = 1e6
"""Numbers from here on are written with an exponent."""
_WHOLE = 100
_SMALL = 1e-3

POSITIONS = {
    "first_token": "first token",
    "first_several": "first, several tokens",
    "inside": "inside",
}
"""Places of the subject, as the database has them and as people read them."""

RULE = (
    "An edit collapses its model where perplexity rises above 1000, or above 10 times the unedited "
    "model's; infinite and undefined perplexities count."
)
"""The default rule of view ``collapse_incidence``."""


def percent(share: float) -> str:
    """Return a share as percent, with one decimal unless it is whole."""
    value = round(_PERCENT * share, 1)
    return (f"{value:.0f}" if value == int(value) else f"{value:.1f}") + _UNIT


def interval(low: float, high: float) -> str:
    """Return an interval of shares in percent."""
    return f"{percent(low).removesuffix(_UNIT)} to {percent(high)}"


def number(value: float | None) -> str:
    """Return a number in three or four figures; empty where it was not measured."""
    if value is None:
        return ""
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    size = abs(value)
    if size >= _PLAIN or 0 < size < _SMALL:
        return f"{value:.2e}"
    if size >= _WHOLE:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def count(value: int | None) -> str:
    """Return a count with separators; empty where there is none."""
    return "" if value is None else f"{value:,}"


def listed(words: list[str]) -> str:
    """Return words as a list in a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
