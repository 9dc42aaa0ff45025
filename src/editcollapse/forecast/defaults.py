"""Thresholds for models without a calibration, from the measured edits that the package carries.

Nothing is called safe whose bound comes within a factor of two of the smallest at which any edit of
any measured model collapsed, nor where the interval of a further model, which may be unlike all of
them, does not exclude that it collapses more often than not; nor where P(collapse) reaches what the
user accepts. Models that are left out say how that does: docs/results.md.
"""

import dataclasses
import functools

from editcollapse.forecast.calibration import LIKELY_FROM, SAFE_BELOW, HeldOut
from editcollapse.forecast.measured import MeasuredModel, measured_data, outcomes
from editcollapse.forecast.probability import CollapseCurve, brier_score, fitted_curve
from editcollapse.forecast.verdicts import Thresholds

MARGIN = 2.0
"""At least so many times that from which on edits are at risk is the smallest of a collapse."""


@functools.cache
def default_thresholds() -> Thresholds:
    """Return the thresholds for a model without a calibration of its own."""
    data = measured_data()
    return pooled_thresholds(data.models, data.curve)


def pooled_thresholds(models: tuple[MeasuredModel, ...], curve: CollapseCurve) -> Thresholds:
    """Return the thresholds that measured models give for others.

    Args:
        models: with at least one collapsed edit among them.
        curve: P(collapse), fitted to their edits, with an interval.
    """
    edits = outcomes(models)
    smallest = float(edits.bounds[edits.collapsed].min())
    never_safe_from = min(smallest / MARGIN, curve.bound_of_high(LIKELY_FROM))
    return Thresholds(
        min(never_safe_from, curve.bound_at(SAFE_BELOW)),
        curve.bound_at(LIKELY_FROM),
        "default",
        0,
        0,
        is_default=True,
        curve=curve,
        never_safe_from=never_safe_from,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """How thresholds of all other models' edits do on one model's."""

    model: str
    at_risk_at: float
    """Of the others."""
    verdicts: HeldOut


def left_out_models(models: tuple[MeasuredModel, ...]) -> tuple[LeftOut, ...]:
    """Return how the rule does on each model, at all its layers, by thresholds of all others."""
    found = []
    for name in dict.fromkeys(each.model for each in models):
        others = tuple(each for each in models if each.model != name)
        edits = outcomes(tuple(each for each in models if each.model == name))
        curve = fitted_curve(outcomes(others))
        limits = pooled_thresholds(others, curve)
        flagged = ~(edits.bounds < limits.at_risk_at)
        found.append(
            LeftOut(name, limits.at_risk_at, HeldOut.of(edits, flagged, brier_score(edits, curve)))
        )
    return tuple(found)
