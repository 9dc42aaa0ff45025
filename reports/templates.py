"""Templates of HTML pages: whatever they are given is escaped."""

from collections.abc import Callable
from pathlib import Path

import jinja2

from editcollapse.visible import visible, visible_lines


def template(name: str, **filters: Callable[..., object]) -> jinja2.Template:
    """Return a template of this folder, with filters ``visible`` and ``visible_lines``.

    Args:
        name: of its file.
        filters: others that it uses, by name.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "visible_lines": visible_lines, **filters}
    return environment.get_template(name)
