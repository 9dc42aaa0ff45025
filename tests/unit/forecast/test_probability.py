"""P(collapse): the curve against its formula, its bootstrap, and edits that leave it no choice."""

import math

import numpy as np
import pytest

from editcollapse.errors import ResultsError, StudyError
from editcollapse.forecast.calibration import Targets, calibrated, tied_bounds
from editcollapse.forecast.probability import (
    CollapseCurve,
    NoTrendError,
    Outcomes,
    brier_score,
    fitted_curve,
)
from editcollapse.forecast.verdicts import Thresholds

CURVE = CollapseCurve(-2.0, 1.5, (-3.0, -2.0, -1.0), (1.0, 1.5, 2.0))


def edits(n=400, seed=0, n_models=1, slope=3.0):
    """Return edits of a known curve, two a subject."""
    draw = np.random.default_rng(seed)
    bounds = np.exp(draw.uniform(-3, 3, n))
    collapsed = draw.random(n) < 1 / (1 + np.exp(-slope * np.log(bounds)))
    return Outcomes(bounds, collapsed, np.arange(n) // 2, np.arange(n) // 2 % n_models)


def test_curve_is_logistic_in_the_logarithm_and_its_inverse_fits():
    """The value, the interval of log odds, and the bound that has a probability."""
    found = CURVE.at(2.0)
    odds = -2.0 + 1.5 * math.log(2)
    low, _, high = (a + b * math.log(2) for a, b in ((-3, 1), (-2, 1.5), (-1, 2)))
    assert found.value == pytest.approx(1 / (1 + math.exp(-odds)))
    assert found.low == pytest.approx(1 / (1 + math.exp(-(0.95 * low + 0.05 * odds))))
    assert found.high == pytest.approx(1 / (1 + math.exp(-(0.95 * high + 0.05 * odds))))
    assert CURVE.bound_at(found.value) == pytest.approx(2.0)
    assert CURVE.bound_of_high(found.high) == pytest.approx(2.0)


@pytest.mark.parametrize(("bound", "value"), [(0.0, 0.0), (math.inf, 1.0), (math.nan, 1.0)])
def test_bounds_at_the_ends_are_certain(bound, value):
    """An edit that changes nothing collapses nothing; one without a bound is taken to."""
    assert CURVE.at(bound).value == value


def test_fit_finds_the_curve_that_edits_were_drawn_from():
    """Intercept and slope are among those of the bootstrap; a seed gives one curve."""
    found = fitted_curve(edits(2000))
    assert min(found.intercepts) < 0 < max(found.intercepts)
    assert min(found.slopes) < 3 < max(found.slopes)
    assert found.slope == pytest.approx(3, rel=0.1)
    assert fitted_curve(edits(2000)) == found


def test_separated_edits_have_a_finite_slope():
    """The penalty keeps the curve finite where the bound separates the two kinds."""
    bounds = np.array([0.1, 0.2, 0.3, 5.0, 6.0, 7.0])
    found = fitted_curve(Outcomes(bounds, bounds > 1, np.arange(6), np.zeros(6, np.int64)))
    assert 0 < found.slope < 50
    assert found.at(0.1).value < 0.5 < found.at(7.0).value


def test_models_count_alike_whatever_their_number_of_edits():
    """A model of which every edit stands ten times in the data changes nothing."""
    few = edits(4000, n_models=2)
    of_one = np.flatnonzero(few.models == 1)
    few.bounds[of_one] *= 9.0  # it collapses from larger bounds on
    more = few.where(np.concatenate([np.arange(4000), *[of_one] * 9]))
    one, two = (fitted_curve(each, n_draws=0) for each in (few, more))
    assert (one.intercept, one.slope) == pytest.approx((two.intercept, two.slope), rel=0.02)


def test_interval_of_unlike_models_is_wider():
    """Where models collapse from different bounds on, a further one may do so anywhere."""
    alike = edits(400, n_models=4)
    shifted = Outcomes(
        alike.bounds * 5.0**alike.models, alike.collapsed, alike.subjects, alike.models
    )
    narrow, wide = fitted_curve(alike).at(1.0), fitted_curve(shifted).at(5.0)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_bounds_that_tell_nothing_are_told():
    """Collapses at smaller bounds, or of one kind only, give no curve."""
    found = edits()
    with pytest.raises(NoTrendError, match="tells nothing"):
        fitted_curve(Outcomes(1 / found.bounds, found.collapsed, found.subjects, found.models))
    with pytest.raises(ResultsError, match="of 400 400 collapsed"):
        fitted_curve(Outcomes(found.bounds, np.ones(400, bool), found.subjects, found.models))


def test_brier_score_is_the_mean_square():
    """By hand, for two edits."""
    two = Outcomes(np.array([1.0, 4.0]), np.array([False, True]), np.arange(2), np.zeros(2, int))
    a, b = CURVE.at(1.0).value, CURVE.at(4.0).value
    assert brier_score(two, CURVE) == pytest.approx((a**2 + (1 - b) ** 2) / 2)


def test_rounding_noise_makes_no_two_bounds():
    """What differs by 1e-7 takes the smallest of its kind; what is no number is the largest."""
    found = tied_bounds(np.array([2.0000001, 3.0, 2.0, math.nan]))
    assert found.tolist() == [2.0, 3.0, 2.0, math.inf]


def test_no_threshold_parts_a_tie():
    """Four edits of one bound, one of which collapsed, are all at risk."""
    bounds = np.array([0.5, 2.0, 2.0000001, 2.0000002, 8.0, 9.0])
    collapsed = np.array([False, False, True, False, True, True])
    one = Outcomes(bounds, collapsed, np.arange(6), np.zeros(6, np.int64))
    found = calibrated(one, Targets(safe_below=0.9999))
    assert found.never_safe_from == pytest.approx(1.0)
    assert found.smallest_collapsed == found.largest_normal == 2.0


def test_held_out_subjects_are_judged_by_the_others():
    """All edits of a subject go together: its own collapses do not warn of it."""
    bounds = np.array([0.1, 0.1, 0.1, 0.1, 0.3, 0.3, 9.0, 9.0, 9.0, 9.0])
    collapsed = bounds > 0.2
    subjects = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    one = Outcomes(bounds, collapsed, subjects, np.zeros(10, np.int64))
    found = calibrated(one, Targets(safe_below=0.9999))
    assert found.held_out.n_edits == 10
    assert found.held_out.n_false_safe == 2  # subject 2: without it edits are safe up to 0.95
    assert found.held_out.n_flagged == 4


def test_accepted_risk_moves_the_threshold_up_to_what_collapsed():
    """Less risk, a lower threshold; more risk never above what measured collapses forbid."""
    limits = Thresholds(1.0, 9.0, "c", 5, 2, is_default=False, curve=CURVE, never_safe_from=2.0)
    low, high = limits.accepting(0.01), limits.accepting(0.9)
    assert low.at_risk_at == pytest.approx(CURVE.bound_at(0.01))
    assert (high.at_risk_at, high.collapse_at) == (2.0, 9.0)
    with pytest.raises(StudyError, match="above 0 and below 1"):
        limits.accepting(1.0)
    with pytest.raises(StudyError, match="Calibrate again"):
        Thresholds(1.0, 9.0, "c", 5, 2, is_default=False).accepting(0.1)
