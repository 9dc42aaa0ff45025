"""Thresholds from measured edits of one model, and how they do on subjects that are held out.

``at_risk_at`` is as low as both conditions ask: below it no more than the wanted share of the
collapses lie, and P(collapse) is below what the user accepts. Bounds that differ by rounding noise
are one, so that no threshold parts them.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from editcollapse.errors import ResultsError
from editcollapse.forecast.probability import (
    N_DRAWS,
    CollapseCurve,
    Floats,
    NoTrendError,
    Outcomes,
    brier_score,
    fitted_curve,
)

SAFE_BELOW = 0.05
"""P(collapse) from which on an edit is not called safe, unless the user says otherwise."""
LIKELY_FROM = 0.5
"""P(collapse) from which on an edit of a model without a calibration is likely to collapse it."""
_NOISE = 1e-6
"""Relative difference of two bounds up to which rounding may be all of it."""
_MAX_FOLDS = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Targets:
    """What a calibration has to reach."""

    recall: float = 1.0
    """Share of the collapsed edits that are at risk or worse."""
    precision: float = 0.95
    """Share of those that are likely to collapse, which did."""
    safe_below: float = SAFE_BELOW
    """P(collapse) that no safe edit reaches."""


@dataclasses.dataclass(frozen=True, slots=True)
class HeldOut:
    """Verdicts on edits by thresholds of other edits alone."""

    n_edits: int
    n_collapsed: int
    n_flagged: int
    """At risk or worse."""
    n_caught: int
    """Of the flagged, those that collapsed."""
    brier: float
    """Of P(collapse)."""

    @classmethod
    def of(cls, edits: Outcomes, flagged: NDArray[np.bool_], brier: float) -> "HeldOut":
        """Return the counts of edits, some of them flagged."""
        return cls(
            n_edits=len(flagged),
            n_collapsed=int(edits.collapsed.sum()),
            n_flagged=int(flagged.sum()),
            n_caught=int((flagged & edits.collapsed).sum()),
            brier=brier,
        )

    @property
    def n_false_safe(self) -> int:
        """Collapsed edits that were called safe."""
        return self.n_collapsed - self.n_caught


@dataclasses.dataclass(frozen=True, slots=True)
class Calibrated:
    """Result of a calibration on one model's edits."""

    auc: float
    largest_normal: float
    smallest_collapsed: float
    never_safe_from: float
    """What the wanted recall asks for; ``at_risk_at`` is not above it."""
    at_risk_at: float
    collapse_at: float
    curve: CollapseCurve | None
    """P(collapse); None where collapses do not become more frequent with the bound."""
    brier: float | None
    """On the edits themselves; None as ``curve``."""
    held_out: HeldOut | None
    """Each subject by the thresholds of all others; None where the others of one
    have no P(collapse)."""


def calibrated(edits: Outcomes, targets: Targets) -> Calibrated:
    """Return the calibration of edits with both outcomes among them.

    Raises:
        ResultsError: no edit that collapsed has a finite bound.
    """
    tied = dataclasses.replace(edits, bounds=tied_bounds(edits.bounds))
    if not np.isfinite(tied.bounds[tied.collapsed]).any():
        raise ResultsError("the edits that collapsed have no finite bound")
    curve = _curve(tied)
    never_safe_from = _caught_from(tied, targets.recall)
    at_risk_at = _at_risk(never_safe_from, curve, targets)
    return Calibrated(
        auc=_auc(tied),
        largest_normal=float(tied.bounds[~tied.collapsed].max()),
        smallest_collapsed=float(tied.bounds[tied.collapsed].min()),
        never_safe_from=never_safe_from,
        at_risk_at=at_risk_at,
        collapse_at=_likely(tied, at_risk_at, targets.precision),
        curve=curve,
        brier=None if curve is None else brier_score(tied, curve),
        held_out=_held_out(tied, targets),
    )


def _curve(edits: Outcomes, n_draws: int = N_DRAWS) -> CollapseCurve | None:
    try:
        return fitted_curve(edits, n_draws=n_draws)
    except NoTrendError:
        return None


def _at_risk(never_safe_from: float, curve: CollapseCurve | None, targets: Targets) -> float:
    if curve is None:
        return never_safe_from
    return min(never_safe_from, curve.bound_at(targets.safe_below))


def tied_bounds(bounds: Floats) -> Floats:
    """Return bounds, of those that differ by rounding noise the smallest for all; nan is inf."""
    whole = np.where(np.isnan(bounds), np.inf, bounds)
    order = np.argsort(whole, kind="stable")
    ordered = whole[order]
    is_next = np.concatenate([[True], ordered[1:] > ordered[:-1] * (1 + _NOISE)])
    found = np.empty_like(whole)
    found[order] = ordered[np.flatnonzero(is_next)[np.cumsum(is_next) - 1]]
    return found


def _caught_from(edits: Outcomes, recall: float) -> float:
    """Return the largest bound that catches the share, half way (geometric) to the next smaller."""
    lost = np.sort(edits.bounds[edits.collapsed])
    n_missed = math.floor(len(lost) * (1 - recall) + 1e-9)
    at_least = float(lost[min(n_missed, len(lost) - 1)])
    smaller = edits.bounds[(edits.bounds < at_least) & (edits.bounds > 0)]
    return math.sqrt(at_least * float(smaller.max())) if len(smaller) else at_least


def _likely(edits: Outcomes, at_risk_at: float, precision: float) -> float:
    """Return the smallest bound of a collapse from which on the wanted share did; inf: none."""
    order = np.argsort(-edits.bounds, kind="stable")
    caught = np.cumsum(edits.collapsed[order])
    bounds = edits.bounds[order]
    last_of_tie = np.concatenate([bounds[:-1] > bounds[1:], [True]])
    share = caught / np.arange(1, len(bounds) + 1)
    lost = set(edits.bounds[edits.collapsed].tolist())
    found = [
        float(bound)
        for bound in bounds[last_of_tie & (share >= precision) & (bounds >= at_risk_at)]
        if float(bound) in lost
    ]
    return min(found, default=math.inf)


def _auc(edits: Outcomes) -> float:
    """Return the chance that a collapsed edit has the larger bound; ties count half."""
    from scipy.stats import rankdata

    ranks = rankdata(edits.bounds)
    n_lost = int(edits.collapsed.sum())
    n_kept = len(ranks) - n_lost
    above = float(ranks[edits.collapsed].sum()) - n_lost * (n_lost + 1) / 2
    return above / (n_lost * n_kept)


def _held_out(edits: Outcomes, targets: Targets) -> HeldOut | None:
    """Return how thresholds of all other subjects do on each subject."""
    flagged = np.zeros(len(edits.bounds), dtype=bool)
    squares = np.zeros(len(edits.bounds))
    for test in _folds(edits.subjects):
        rest = edits.where(~test)
        curve = _curve(rest, n_draws=0) if rest.has_both else None
        if curve is None:
            return None
        limit = _at_risk(_caught_from(rest, targets.recall), curve, targets)
        flagged[test] = edits.bounds[test] >= limit
        squares[test] = brier_score(edits.where(test), curve)
    return HeldOut.of(edits, flagged, float(squares.mean()))


def _folds(subjects: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Yield masks that hold out each subject once; above 100 subjects several at a time."""
    _, places = np.unique(subjects, return_inverse=True)
    n_folds = min(int(places.max()) + 1, _MAX_FOLDS)
    for fold in range(n_folds):
        yield places % n_folds == fold
