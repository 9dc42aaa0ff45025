"""The scripts inside a report: Vega, and ours that draws with it; a policy that allows no other.

Everything is in the page: it opens without a network, and its content security policy names each
script by digest, so that no other runs, whatever a study's texts are.
"""

import base64
import dataclasses
import functools
import hashlib
import json
from pathlib import Path

import altair as alt
import vl_convert
from markupsafe import Markup

from reports.themes import THEMES, figure_config

_OWN = Path(__file__).with_name("figures.js")
_NOTICE = (
    "/* Vega, Vega-Lite and Vega-Embed: Copyright (c) University of Washington Interactive Data "
    "Lab and contributors, BSD-3-Clause, https://vega.github.io */"
)
_HIDDEN = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


_EXPOSED = "window.vegaEmbed = vegaEmbed;"


@dataclasses.dataclass(frozen=True, slots=True)
class Scripts:
    """What a page with figures runs."""

    vega: Markup
    """Vega, Vega-Lite, Vega-Embed and all that they need."""
    own: Markup
    looks: Markup
    """Configurations of the figures by look, JSON."""
    policy: str
    """Sources of scripts in a content security policy."""


@functools.cache
def page_scripts() -> Scripts:
    """Return the scripts of a page with figures, the same in every page."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    vega = f"{_NOTICE}\n{vl_convert.javascript_bundle(_EXPOSED, version)}"
    own = _OWN.read_text(encoding="utf-8")
    for text in (vega, own):
        if "</script" in text.lower() or "<!--" in text:
            raise AssertionError("a script that ends its own element")
    looks = {theme.name: figure_config(theme) for theme in THEMES}
    return Scripts(
        vega=Markup(vega),  # noqa: S704 - no text of a study is in it
        own=Markup(own),  # noqa: S704 - likewise
        looks=json_block(json.dumps(looks)),
        policy=f"{_source(vega)} {_source(own)}",
    )


def json_block(text: str) -> Markup:
    """Return JSON as the text of a script element, which nothing in it can end or open."""
    return Markup(text.translate(_HIDDEN))  # noqa: S704 - no character of markup is left


def _source(script: str) -> str:
    """Return how a policy names a script."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
