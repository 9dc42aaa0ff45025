"""Figures draw what SQL says, in valid charts that hold no text of a study."""

import dataclasses
import json
import math

import polars as pl
import pytest

from reports.edit_charts import (
    denominator_figure,
    incidence_figure,
    perplexity_figure,
    skill_figures,
)
from reports.figures import (
    METHOD_TITLES,
    OUTCOMES,
    PLACES,
    ROLES,
    THEMES,
    drawable,
    figure_config,
    panel_json,
    reach_of,
    specification,
)
from reports.page import illustrated_sections, json_block
from tests.reports.whole_study import ATTACK, KINDS

EXPECTED = {
    "figure-incidence",
    "figure-editing",
    "figure-positions",
    "figure-perplexity",
    "figure-denominators",
    "figure-roc",
    "figure-calibration",
    "figure-skill",
    "figure-layers",
    "figure-keys-pca",
    "figure-keys-tsne",
    "figure-findings",
    "figure-norms",
    "figure-attention",
    "figure-free-answers",
    "figure-downstream",
}


def figures_of(published):
    """Return the figures of a report by name."""
    parts = illustrated_sections(published.found, published.shown)
    return {figure.name: figure for part in parts for figure in part.figures}


@pytest.fixture(scope="module")
def figures(whole):
    """Return the figures of the study that has them all."""
    return figures_of(whole)


def test_study_with_everything_has_every_figure(figures):
    """Each figure has panels, and each panel rows."""
    assert set(figures) == EXPECTED
    for figure in figures.values():
        assert figure.panels
        assert all(panel.rows.height for panel in figure.panels)


def test_charts_are_valid(figures):
    """Altair's schema of Vega-Lite takes every chart, which the page does not check again."""
    for figure in figures.values():
        for panel in figure.panels:
            assert panel.chart.to_dict(validate=True)


def test_charts_hold_no_text_and_no_colour(figures, whole):
    """Names of a study are rows, never part of a specification; colours are the page's."""
    names = {"evil.example", *whole.found.models.frame["model"]}
    for figure in figures.values():
        for panel in figure.panels:
            text = json.dumps(specification(panel))
            assert not [name for name in names if name in text]
            assert "#" not in text
            assert "http" not in text


def test_specifications_are_the_same_every_time(demo):
    """Two reports of the same rows are the same bytes."""
    one, two = figures_of(demo), figures_of(demo)
    for name, figure in one.items():
        again = two[name].panels
        assert list(map(panel_json, figure.panels)) == list(map(panel_json, again))


def test_encodings_name_columns_that_there_are(figures):
    """Every field that a chart draws from its rows is a column of them."""
    for figure in figures.values():
        for panel in figure.panels:
            own = {"at", "start", "end", "word"}
            assert _fields(specification(panel)) - own <= set(panel.rows.columns)


def _fields(value):
    if isinstance(value, list):
        return set().union(*map(_fields, value))
    if not isinstance(value, dict):
        return set()
    own = {value["field"]} if isinstance(value.get("field"), str) else set()
    return own.union(*map(_fields, value.values()))


def test_incidence_is_the_databases(demo):
    """Shares and intervals of the figure are those of the table."""
    frame = demo.found.incidence.frame
    drawn = pl.concat(panel.rows for panel in incidence_figure(demo.found).panels)
    assert drawn["share"].to_list() == frame["share"].to_list()
    assert drawn["low"].to_list() == frame["wilson_low"].to_list()
    assert drawn["high"].to_list() == frame["wilson_high"].to_list()


def _with(demo, **columns):
    """Return the demo study's figures with the first edits' numbers replaced."""
    edits = demo.shown.edits.frame
    for name, values in columns.items():
        rest = edits[name].to_list()[len(values) :]
        edits = edits.with_columns(pl.Series(name, [*values, *rest], dtype=pl.Float64))
    answer = dataclasses.replace(demo.shown.edits, frame=edits)
    return dataclasses.replace(demo.shown, edits=answer)


def test_infinite_and_undefined_edits_are_drawn_and_counted(demo):
    """They stand at the far end with a shape of their own; the caption says how many."""
    shown = _with(demo, perplexity=[math.inf, math.nan, None])
    figure = perplexity_figure(shown)
    assert (
        "Perplexity at the far end: 1 infinite (triangle), 2 undefined (cross)." in figure.caption
    )
    rows = pl.concat(panel.rows for panel in figure.panels)
    assert rows.height == shown.edits.frame.height
    odd = rows.filter(pl.col("kind_perplexity") != "finite")
    assert odd["said_perplexity"].to_list() == ["infinite", "undefined", "undefined"]
    assert odd["drawn_perplexity"].min() > 2 * shown.edits.frame["perplexity"][3:].max()
    assert "far end" not in perplexity_figure(demo.shown).caption


def test_denominator_of_zero_is_drawn_at_the_near_end(demo):
    """A logarithm has no place for 0: the smallest denominators' end of the axis, and a count."""
    figure = denominator_figure(_with(demo, abs_denominator=[0.0], perplexity_ratio=[math.inf]))
    assert "Denominator 0, at the near end: 1." in figure.caption
    rows = pl.concat(panel.rows for panel in figure.panels)
    assert rows["drawn_abs_denominator"][0] == rows["drawn_abs_denominator"].min() > 0
    assert rows["kind_perplexity_ratio"][0] == "infinite"


def test_caption_says_how_many_edits_are_drawn(demo):
    """All of the demo study; of a larger study so many of how many."""
    assert "All 1,152 measured edits." in perplexity_figure(demo.shown).caption
    edits = demo.shown.edits.frame.with_columns(
        n_measured=pl.lit(100_000), n_collapsed=pl.lit(5_000)
    )
    answer = dataclasses.replace(demo.shown.edits, frame=edits)
    caption = perplexity_figure(dataclasses.replace(demo.shown, edits=answer)).caption
    assert "1,152 of 100,000 measured edits drawn: 77 of the 5,000 that collapse" in caption


def test_forecast_without_collapses_has_no_curve(demo):
    """A study without forecasts has neither curve nor precision."""
    assert skill_figures(demo.shown) == ()


def test_keys_are_drawn_in_their_own_spaces(figures):
    """C^-1 k stands in a panel of its own; every kind is drawn."""
    panels = figures["figure-keys-pca"].panels
    kinds = [set(panel.rows["named_kind"]) for panel in panels]
    assert len(kinds) == 2
    assert len(kinds[0]) == len(KINDS) - 1
    assert kinds[0].isdisjoint(kinds[1])


def test_interval_below_zero_is_drawn_on_a_logarithmic_axis(figures):
    """The lower end of a norm's interval is cut at a tenth of the norm, not dropped."""
    rows = figures["figure-norms"].panels[0].rows
    assert rows["low"].min() > 0
    assert rows["low"][0] == pytest.approx(rows["value"][0] / 10)


def test_numbers_that_json_has_not_are_refused():
    """An infinite number among the rows of a panel is our mistake, not a broken page."""
    from reports.figures import Panel, charted, named_data

    chart = charted(__import__("altair").Chart(named_data()).mark_point(), height=1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        panel_json(Panel("", chart, pl.DataFrame({"x": [math.inf]})))


def test_hidden_characters_of_rows_are_shown():
    """A direction mark in a tooltip is written out."""
    assert drawable(pl.DataFrame({"x": ["a\u202eb"]}))["x"].item() == "a\\u202eb"


def test_json_cannot_leave_its_element():
    """No character of markup is left, and the JSON says the same."""
    block = json_block(json.dumps([ATTACK, "\u2028 & <!--"], ensure_ascii=False))
    assert not set("<>&\u2028\u2029") & set(block)
    assert json.loads(block) == [ATTACK, "\u2028 & <!--"]


@pytest.mark.parametrize(
    ("values", "ends"),
    [([3.0, 40.0], (1.0, 100.0)), ([math.nan, -1.0], (1.0, 10.0)), ([0.0, 1.0], (1.0, 10.0))],
)
def test_axis_ends_at_powers_of_ten(values, ends):
    """Around the finite positive numbers, and never of no length."""
    assert reach_of(pl.Series(values)) == ends


def test_looks_differ_in_colour_alone():
    """Light and dark configure the same things."""
    light, dark = (figure_config(theme) for theme in THEMES)
    assert light.keys() == dark.keys()
    assert all(len({getattr(theme, role) for role in ROLES}) >= len(ROLES) - 1 for theme in THEMES)
    assert light != dark


def _scales(value, channel):
    """Yield the scales of a channel anywhere in a specification."""
    if isinstance(value, list):
        for each in value:
            yield from _scales(each, channel)
    elif isinstance(value, dict):
        if isinstance(value.get(channel), dict) and "scale" in value[channel]:
            yield value[channel]["scale"]
        for each in value.values():
            yield from _scales(each, channel)


def test_words_and_methods_look_the_same_everywhere(figures):
    """Every nominal colour has one domain, so that a word has one colour; methods likewise."""
    specs = [specification(panel) for figure in figures.values() for panel in figure.panels]
    domains = [scale["domain"] for scale in _scales(specs, "color")]
    assert {*OUTCOMES, *PLACES} <= set(domains[0])
    assert all(domain == domains[0] for domain in domains)
    assert len(figure_config(THEMES[0])["range"]["category"]) == len(domains[0])
    symbols = {
        tuple(scale["range"])
        for scale in _scales(specs, "shape")
        if scale["domain"] == list(METHOD_TITLES)
    }
    assert len(symbols) == 1


def test_axes_reach_the_rule(demo):
    """The line of the rule is inside the axis of a study that nowhere comes near it."""
    calm = demo.shown.edits.frame.filter(pl.col("model") == "gpt2-control")
    shown = dataclasses.replace(demo.shown, edits=dataclasses.replace(demo.shown.edits, frame=calm))
    before = calm["perplexity_before"][0]
    for figure, channel, limit in (
        (perplexity_figure(shown), "x", 10 * before),
        (denominator_figure(shown), "y", 10.0),
    ):
        (panel,) = figure.panels
        (scale,) = _scales(specification(panel), channel)
        assert scale["domain"][0] < limit < scale["domain"][1]


def test_panels_of_one_model_stay_together(figures, demo):
    """Where a model has several panels they stand under its name; else panels stand in a row."""
    apart = figures["figure-editing"].by_model
    assert [model for model, _ in apart] == ["gpt2-induced", "gpt2-control", "llama-induced"]
    assert all(len(panels) == 3 for _, panels in apart)
    ((none, row),) = incidence_figure(demo.found).by_model
    assert none == ""
    assert len(row) == 3
