"""Untrusted text made plain: subjects, prompts, targets, notes and names as text, never as markup.

Prefect's UI renders every string of an artifact as Markdown with HTML, table cells included, and
follows ``javascript:`` links. HTML itself is escaped by the template (``html``).
"""

import re
import unicodedata

_SHOWN = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_JOINERS = {"\u200c", "\u200d"}
"""Format characters that spelling needs."""
JOINER = "\N{WORD JOINER}"
"""Breaks an address in two without showing."""
_MARKS = re.compile(r"[\\`*\[\]<>&|~$!{}]")
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_WEB = re.compile(r"(?i)www(?=\.)|:(?=//)|@")
_START = re.compile(r"^([#+=-]|\d+(?=[.)](\s|$)))")
_RUN_OF_TICKS = re.compile(r"`+")


def visible(text: str) -> str:
    r"""Return a text in one line whose control and direction characters can be seen.

    A terminal obeys escape sequences and direction marks; written as ``\x1b`` they do nothing.
    """
    return "".join(_SHOWN.get(character) or _seen(character) for character in text)


def visible_lines(text: str) -> str:
    """Return a text with its line ends and tabs kept and all else as ``visible``."""
    return "".join(c if c in "\n\t" else _SHOWN.get(c) or _seen(c) for c in text)


def _seen(character: str) -> str:
    """Return a character, or its escape where it is a control or format character."""
    kind = unicodedata.category(character)
    hidden = kind in {"Cc", "Cs", "Zl", "Zp"} or (kind == "Cf" and character not in _JOINERS)
    return ascii(character)[1:-1] if hidden else character


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


def artifact_key(*words: str) -> str:
    """Return a key for an artifact: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
