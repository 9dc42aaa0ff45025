"""Untrusted text on a terminal: control and direction characters are written out, not obeyed."""

import unicodedata

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_JOINERS = {"\u200c", "\u200d"}
"""Format characters that spelling needs."""


def visible(text: str) -> str:
    r"""Text in one line whose control and direction characters can be seen.

    A terminal obeys escape sequences and direction marks; written as ``\x1b`` they do nothing.
    """
    return "".join(_ESCAPES.get(character) or _seen(character) for character in text)


def visible_lines(text: str) -> str:
    """Text with its line ends and tabs kept and all else as ``visible``."""
    return "".join(c if c in "\n\t" else _ESCAPES.get(c) or _seen(c) for c in text)


def _seen(character: str) -> str:
    """Return a character, or its escape where it is a control or format character."""
    kind = unicodedata.category(character)
    hidden = kind in {"Cc", "Cs", "Zl", "Zp"} or (kind == "Cf" and character not in _JOINERS)
    return ascii(character)[1:-1] if hidden else character
