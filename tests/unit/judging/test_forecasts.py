"""What a difference alone lets expect: warnings, and nothing is called safe."""

import dataclasses

import pytest

from editcollapse.judging.change_curve import change_curve, fit_change_curve
from editcollapse.judging.findings import TensorChange, forecast_change

_EDIT = TensorChange(
    tensor="h.1.mlp.c_proj.weight",
    layer=1,
    part="down projection",
    shape=(4, 2),
    n_entries=8,
    n_changed=8,
    n_not_finite=0,
    max_abs=1.0,
    norm=1.0,
    weight_norm=1.0,
    relative_norm=1.0,
    spectral_norm=1.0,
    effective_rank=1.0,
    first_share=1.0,
    text_change=100.0,
    n_tokens=1000,
    tokens_per_input=500.0,
)


def _with(**fields):
    return dataclasses.replace(_EDIT, **fields)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [(100.0, "will collapse"), (2.0, "at risk"), (0.5, "not known"), (0.0, "not known")],
)
def test_large_edits_of_rank_one_are_warned_of(change, verdict):
    """By the change on text; a small one is not called safe, with its probability beside."""
    found = forecast_change((_with(text_change=change),), ())
    assert found.verdict == verdict
    assert found.probability is not None


@pytest.mark.parametrize(
    "changes",
    [
        (_EDIT, _EDIT),
        (_with(part="linear"),),
        (_with(first_share=0.5),),
        (_with(first_share=None),),
        (_with(text_change=None),),
        (_with(tokens_per_input=7.9),),
        (_with(n_not_finite=1),),
    ],
)
def test_of_other_differences_nothing_is_known(changes):
    """Several tensors, other maps, higher ranks, too little text: no probability."""
    found = forecast_change(changes, ())
    assert (found.verdict, found.probability) == ("not known", None)
    assert forecast_change((_EDIT,), ("rope_theta",)).verdict == "not known"


def test_curve_is_that_of_the_measured_edits():
    """The file that the package carries is the fit; else: python -m scripts.change_curve."""
    fitted, kept = fit_change_curve(n_draws=0), change_curve()
    assert (fitted.n_edits, fitted.n_collapsed) == (kept.n_edits, kept.n_collapsed)
    assert fitted.smallest_collapse == kept.smallest_collapse
    assert fitted.curve.intercept == pytest.approx(kept.curve.intercept, rel=1e-6)
    assert fitted.curve.slope == pytest.approx(kept.curve.slope, rel=1e-6)
    assert kept.at_risk_at < kept.smallest_collapse / 1.9
    assert kept.at_risk_at < kept.collapse_at
