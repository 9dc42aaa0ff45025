"""Text of a report: sections and tables, numbers as people read them, untrusted text made plain.

Prefect's UI renders every string of an artifact as Markdown with HTML, table cells included, and
follows ``javascript:`` links: subjects, prompts, targets, notes and names are escaped here. HTML
itself is escaped by the template (``html``).
"""

import dataclasses
import math
import re

from markupsafe import Markup

from editcollapse.visible import visible, visible_lines

JOINER = "\N{WORD JOINER}"
"""Breaks an address in two without showing."""
_MARKS = re.compile(r"[\\`*\[\]<>&|~$!{}]")
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_WEB = re.compile(r"(?i)www(?=\.)|:(?=//)|@")
_START = re.compile(r"^([#+=-]|\d+(?=[.)](\s|$)))")
_RUN_OF_TICKS = re.compile(r"`+")
_HIDDEN = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Cells as text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = frozenset()
    """Columns that are set flush right."""


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """One line of a picture: a share and its interval, fractions 0-1."""

    label: str
    share: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """One part of a report."""

    name: str
    """Anchor in the page."""
    title: str
    sentences: tuple[str, ...]
    table: Table
    sql: str
    """Answers with the table's rows; empty where no single query does."""
    intervals: tuple[Interval, ...] = ()


def markdown_text(text: str) -> str:
    """Return Markdown that shows a text as it is: no markup, no HTML, no link, in one line.

    Ordinary names stay as they are, for what shows Markdown unrendered. Addresses get an invisible
    mark: what looks for them in text takes no notice of backslashes.
    """
    plain = _MARKS.sub(r"\\\g<0>", visible(text).strip())
    plain = _UNDERSCORE.sub(r"\\_", plain)
    plain = _WEB.sub(rf"\g<0>{JOINER}", plain)
    return _START.sub(_unmarked, plain)


def _unmarked(found: re.Match[str]) -> str:
    """Return the start of a line so that it opens neither heading nor list."""
    mark = found.group(0)
    return f"{mark}\\" if mark[0].isdigit() else f"\\{mark}"


def fenced(text: str, language: str = "") -> str:
    """Return a Markdown code block that its text cannot close."""
    longest = max((len(run) for run in _RUN_OF_TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible_lines(text)}\n{fence}"


def json_block(text: str) -> Markup:
    """Return JSON as the text of a script element, which nothing in it can end or open."""
    return Markup(text.translate(_HIDDEN))  # noqa: S704 - no character of markup is left


def artifact_key(*words: str) -> str:
    """Return a key for an artifact: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


_PERCENT = 100
_UNIT = "\N{NO-BREAK SPACE}%"
_PLAIN = 1e6
"""Numbers from here on are written with an exponent."""
_WHOLE = 100
_SMALL = 1e-3


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
