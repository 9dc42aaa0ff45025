"""The README's picture is that of the rows and charts that are checked in."""

import json

import vl_convert

from reports import pictures
from reports.edit_charts import denominator_figure
from reports.figures import DARK, LIGHT


def test_pictures_are_up_to_date(demo, monkeypatch, tmp_path, capsys):
    """--check passes as checked in, and fails where the digest is another."""
    monkeypatch.setattr(pictures, "_figure", lambda: denominator_figure(demo.shown))
    assert pictures.main(["--check"]) == 0
    monkeypatch.setattr(pictures, "MADE_OF", tmp_path / "other")
    assert pictures.main(["--check"]) == 1
    assert "python -m reports.pictures" in capsys.readouterr().err


def test_drawing_is_whole(demo):
    """Each model has its panel and all its edits; both looks draw the same on another ground."""
    figure = denominator_figure(demo.shown)
    light, dark = (json.loads(pictures.drawing(figure, theme)) for theme in (LIGHT, DARK))
    assert [panel["title"] for panel in light["hconcat"]] == [p.label for p in figure.panels]
    rows = [rows for name, rows in light["datasets"].items() if name.startswith("rows_")]
    assert sum(map(len, rows)) == demo.found.n_measured
    assert light["datasets"] == dark["datasets"]
    assert light["config"]["background"] != dark["config"]["background"]
    assert vl_convert.vegalite_to_svg(light).count("<path") > demo.found.n_measured
