"""The measured edits that the package carries: what default verdicts rest on, and their promise."""

import math

import numpy as np
import pytest

from editcollapse.catalog.methods import METHODS
from editcollapse.forecast.calibration import LIKELY_FROM, SAFE_BELOW
from editcollapse.forecast.defaults import MARGIN, default_thresholds, left_out_models
from editcollapse.forecast.measured import ADAPTER, measured_data, outcomes
from editcollapse.forecast.probability import fitted_curve
from editcollapse.forecast.verdicts import verdict_of
from editcollapse.rows.study import POSITIONS
from scripts.measured_edits import DATA, merged, written

MODELS = measured_data().models
NAMES = [f"{m.model}, layer {m.layer}{', start' * m.start_token}, {m.study}" for m in MODELS]


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_no_edit_that_is_called_safe_has_collapsed(model):
    """Of no model that was ever measured, at no layer, by no method."""
    limits = default_thresholds()
    wrong = [
        (method, case, bound, ratio)
        for method, case, bound, ratio, lost in zip(
            model.edits.method,
            model.edits.case,
            model.edits.text_change_bound,
            model.edits.ppl_ratio,
            model.collapsed,
            strict=True,
        )
        if lost and verdict_of(bound, model.n_tokens / model.d_key, limits) == "safe"
    ]
    assert not wrong


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_columns_are_whole(model):
    """Every edit has its method, place, bound and outcome, and the model its origin."""
    edits = model.edits
    lengths = {len(getattr(edits, name)) for name in edits.__slots__}
    assert lengths == {len(edits.method)} != {0}
    assert set(edits.method) <= set(METHODS)
    assert set(edits.subject_position) <= set(POSITIONS)
    assert not any(math.isnan(bound) or bound < 0 for bound in edits.text_change_bound)
    assert model.source
    assert model.license
    assert 0 <= model.layer < model.n_layers
    assert model.n_tokens > model.d_key


def test_curve_is_that_of_the_edits():
    """The file's curve is fitted to the file's edits, and to no others."""
    fitted, kept = fitted_curve(outcomes(MODELS)), measured_data().curve
    for name in kept.__slots__:
        assert getattr(kept, name) == pytest.approx(getattr(fitted, name), rel=1e-3, abs=1e-3), name


def test_file_is_written_as_it_is_read():
    """Read and written again it is the same text, in one order."""
    assert written(ADAPTER.validate_json(DATA.read_bytes())) == DATA.read_text(encoding="utf-8")
    assert [m.model for m in merged(MODELS[1:], MODELS[:1]).models] == [m.model for m in MODELS]


def test_default_respects_collapses_and_the_risk():
    """At risk begins where each of three conditions asks for it, whichever is first."""
    limits, edits = default_thresholds(), outcomes(MODELS)
    smallest = edits.bounds[edits.collapsed].min()
    assert limits.never_safe_from <= smallest / MARGIN
    assert limits.curve.at(limits.never_safe_from * 0.999).high < LIKELY_FROM
    assert limits.at_risk_at == min(limits.never_safe_from, limits.curve.bound_at(SAFE_BELOW))
    assert limits.collapse_at >= limits.at_risk_at
    assert limits.is_default


@pytest.fixture(scope="module")
def left_out():
    """Return how each model is judged by all others."""
    return left_out_models(MODELS)


@pytest.mark.slow
def test_left_out_models_are_judged_by_the_others(left_out):
    """Each model once, all its layers together; the thresholds are not its own."""
    found = left_out
    assert sorted(each.model for each in found) == sorted({m.model for m in MODELS})
    assert sum(each.verdicts.n_edits for each in found) == sum(len(m.collapsed) for m in MODELS)
    for each in found:
        others = outcomes(tuple(m for m in MODELS if m.model != each.model))
        assert each.at_risk_at <= others.bounds[others.collapsed].min() / MARGIN
        ours = outcomes(tuple(m for m in MODELS if m.model == each.model))
        missed = int(np.sum(ours.collapsed & (ours.bounds < each.at_risk_at)))
        assert each.verdicts.n_false_safe == missed


@pytest.mark.slow  # the tables of the docs are made of the same, and checked
def test_no_collapse_of_a_left_out_model_is_called_safe(left_out):
    """What the other models tell is cautious enough for each."""
    found = {each.model: each.verdicts.n_false_safe for each in left_out}
    assert not any(found.values()), found
