"""The README's picture: a figure of the demo study's rows as PNG, light and dark.

``python -m reports.pictures`` draws it; with ``--check`` it says whether what is checked in was
made of the rows and charts that there are. Pictures themselves are not compared: fonts differ by
machine.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vl_convert

from editcollapse.fingerprints import digest
from reports.edit_charts import denominator_figure
from reports.figures import ROWS, THEMES, Figure, Theme, drawable, figure_config, specification
from storage.demo_rows import unpack
from storage.figures import study_figures
from storage.findings import find_study

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
MADE_OF = FOLDER / "denominators.digest"
"""Digest of what the pictures were drawn from."""
_WIDTH = 230
_SCALE = 1.3


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the pictures, or check them; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.pictures",
        description="Draw the README's picture from the demo study's checked-in rows.",
        epilog="example: python -m reports.pictures --check",
    )
    parser.add_argument("--check", action="store_true", help="draw nothing, say whether it is due")
    options = parser.parse_args(arguments)
    figure = _figure()
    drawings = {theme.name: drawing(figure, theme) for theme in THEMES}
    found = digest("pictures", *drawings.values())
    if options.check:
        if MADE_OF.is_file() and MADE_OF.read_text(encoding="utf-8").strip() == found:
            return 0
        sys.stderr.write(
            "docs/pictures was drawn from other rows or charts: python -m reports.pictures\n"
        )
        return 1
    for name, spec in drawings.items():
        image = vl_convert.vegalite_to_png(spec, scale=_SCALE)
        (FOLDER / f"denominators_{name}.png").write_bytes(image)
    MADE_OF.write_text(f"{found}\n", encoding="utf-8")
    return 0


def drawing(figure: Figure, theme: Theme) -> str:
    """Return a figure's panels side by side as one Vega-Lite specification with its rows, JSON."""
    panels: list[dict[str, Any]] = []
    datasets: dict[str, Any] = {}
    for index, panel in enumerate(figure.panels):
        spec: dict[str, Any] = specification(panel)
        datasets |= spec.pop("datasets", {})
        own = f"{ROWS}_{index}"
        datasets[own] = drawable(panel.rows).to_dicts()
        _rename(spec, own)
        panels.append({**spec, "title": panel.label, "width": _WIDTH, "height": _WIDTH})
    whole = {
        "hconcat": panels,
        "datasets": datasets,
        "config": {
            **figure_config(theme),
            "background": theme.ground,
            "title": {"color": theme.ink, "anchor": "start"},
        },
    }
    return json.dumps(whole, sort_keys=True)


def _rename(value: Any, own: str) -> None:
    """Give a panel's data the name that they have beside other panels'."""
    if isinstance(value, dict):
        if value.get("name") == ROWS:
            value["name"] = own
        for each in value.values():
            _rename(each, own)
    elif isinstance(value, list):
        for each in value:
            _rename(each, own)


def _figure() -> Figure:
    """Return the figure of the demo study."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        unpack(results)
        return denominator_figure(study_figures(results, find_study(results)))


if __name__ == "__main__":
    sys.exit(main())
