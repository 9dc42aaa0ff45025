"""P(collapse) of an edit by its change bound: a logistic curve of measured edits.

log odds = intercept + slope * log(text_change_bound). The fit is scikit-learn's, with an L2 penalty
(C = 1 on the standardised log bound): without one, edits that the bound separates perfectly would
have an infinite slope. The interval comes from a bootstrap that draws models and subjects, not
edits: edits of one subject, and of one model, go together. Of M models together it is that of a
further model, which begins to collapse sqrt(M + 1) times as far from the mean as the mean's own
error, in log(bound).
"""

import dataclasses
import math
from typing import cast

import numpy as np
from numpy.typing import NDArray

from editcollapse.errors import ResultsError

N_DRAWS = 200
"""Bootstrap samples behind an interval."""
_LOW, _HIGH = 0.025, 0.975
_NEAR = 0.05
"""P(collapse) near which curves are compared: verdicts change there."""
_REACH, _STEP = 700.0, 1e-9
"""Of log(bound): what exp can take, and how closely an inverse is looked for."""
_PENALTY = 1.0
"""scikit-learn's C."""

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Probability:
    """P(collapse) of one edit, fractions 0-1, with a 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2g} ({self.low:.2g} to {self.high:.2g})"


@dataclasses.dataclass(frozen=True, slots=True)
class CollapseCurve:
    """P(collapse) by the change bound, as ``collapse_probability`` of the database has it."""

    intercept: float
    """Log odds at bound 1."""
    slope: float
    """Log odds for each factor e of the bound; positive."""
    intercepts: tuple[float, ...]
    """Of the bootstrap's curves, N_DRAWS or none."""
    slopes: tuple[float, ...]
    """Of the same curves, all positive."""

    def at(self, bound: float) -> Probability:
        """Return P(collapse) at a change bound: 0 at 0; 1 where it is infinite or no number."""
        if math.isnan(bound) or bound == math.inf:
            return Probability(1.0, 1.0, 1.0)
        if bound <= 0:
            return Probability(0.0, 0.0, 0.0)
        x = math.log(bound)
        value = self.intercept + self.slope * x
        if not self.slopes:
            return Probability(*[_share(value)] * 3)
        odds = np.array(self.intercepts) + np.array(self.slopes) * x
        low, high = (float(each) for each in np.quantile(odds, (_LOW, _HIGH)))
        return Probability(_share(value), _share(min(low, value)), _share(max(high, value)))

    def bound_at(self, probability: float) -> float:
        """Return the change bound at which P(collapse) is this; inverse of ``at``.

        Args:
            probability: strictly between 0 and 1.
        """
        odds = math.log(probability / (1 - probability))
        return math.exp(min((odds - self.intercept) / self.slope, _REACH))

    def bound_of_high(self, probability: float) -> float:
        """Return the change bound at which the interval's upper end is this.

        Args:
            probability: strictly between 0 and 1.
        """
        low, high = -_REACH, _REACH
        while high - low > _STEP:
            middle = (low + high) / 2
            if self.at(math.exp(middle)).high < probability:
                low = middle
            else:
                high = middle
        return math.exp(high)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """N measured edits: what was foreseen and what came of it."""

    bounds: Floats
    """text_change_bound, (N,); an infinite one, or one that is no number, is the largest."""
    collapsed: NDArray[np.bool_]
    """(N,)."""
    subjects: NDArray[np.int64]
    """(N,): equal for edits of one subject of one model."""
    models: NDArray[np.int64]
    """(N,): equal for edits of one model."""

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Outcomes":
        """Return some of the edits, by a mask or by indices."""
        return Outcomes(
            self.bounds[chosen],
            self.collapsed[chosen],
            self.subjects[chosen],
            self.models[chosen],
        )

    @property
    def has_both(self) -> bool:
        """Whether some collapsed and some did not."""
        return bool(self.collapsed.any() and not self.collapsed.all())


class NoTrendError(ResultsError):
    """Edits with larger bounds do not collapse more often: there is no P(collapse) to go by."""


def fitted_curve(edits: Outcomes, *, n_draws: int = N_DRAWS, seed: int = 0) -> CollapseCurve:
    """Return the curve of measured edits, each model with the same weight.

    Args:
        edits: with both outcomes among them.
        n_draws: bootstrap samples; 0: without an interval.
        seed: of the bootstrap.

    Raises:
        NoTrendError: collapses do not become more frequent with the bound.
        ResultsError: one of the outcomes is missing.
    """
    if not edits.has_both:
        raise ResultsError(
            f"P(collapse) needs edits that collapsed and edits that did not; of "
            f"{len(edits.bounds)} {int(edits.collapsed.sum())} collapsed."
        )
    intercept, slope = _fit(edits)
    if slope <= 0:
        raise NoTrendError(
            f"the collapses of these {len(edits.bounds)} edits do not become more frequent with "
            "the change bound, so that it tells nothing about them."
        )
    generator = np.random.default_rng(seed)
    groups = _groups(edits)
    draws: list[tuple[float, float]] = []
    for _ in range(n_draws):
        sample = _drawn(edits, groups, generator)
        if sample.has_both:
            draws.append(_fit(sample))
    n_models = len(np.unique(edits.models))
    factor = math.sqrt(n_models + 1) if n_models > 1 else 1.0
    spread = [_spread((intercept, slope), draw, factor) for draw in draws if draw[1] > 0]
    return CollapseCurve(
        intercept,
        slope,
        tuple(draw[0] for draw in spread),
        tuple(draw[1] for draw in spread),
    )


def _spread(
    curve: tuple[float, float], draw: tuple[float, float], factor: float
) -> tuple[float, float]:
    """Return a bootstrap's curve, moved along log(bound) so many times as far as it lies.

    A curve lies where P(collapse) is ``_NEAR``; its slope stays.
    """
    odds = math.log(_NEAR / (1 - _NEAR))
    (a, b), (drawn_a, drawn_b) = curve, draw
    place = (odds - a) / b
    place += factor * ((odds - drawn_a) / drawn_b - place)
    return odds - drawn_b * place, drawn_b


def brier_score(edits: Outcomes, curve: CollapseCurve) -> float:
    """Return the mean squared difference of P(collapse) and outcome; 0 is perfect."""
    return float(np.mean((_values(edits.bounds, curve) - edits.collapsed) ** 2))


def _values(bounds: Floats, curve: CollapseCurve) -> Floats:
    return np.array([curve.at(float(bound)).value for bound in bounds])


def _fit(edits: Outcomes) -> tuple[float, float]:
    """Return intercept and slope over log(bound)."""
    from sklearn.linear_model import LogisticRegression

    x = _logs(edits.bounds)
    _, model, counts = np.unique(edits.models, return_inverse=True, return_counts=True)
    weights = len(x) / len(counts) / counts[model]
    centre = float(np.average(x, weights=weights))
    scale = math.sqrt(float(np.average((x - centre) ** 2, weights=weights))) or 1.0
    found = LogisticRegression(C=_PENALTY, solver="newton-cholesky").fit(
        ((x - centre) / scale)[:, None], edits.collapsed, sample_weight=weights
    )
    slope = float(found.coef_[0, 0]) / scale
    return float(found.intercept_[0]) - slope * centre, slope


def _logs(bounds: Floats) -> Floats:
    """Return log bounds; what is 0, infinite or no number takes the nearest finite one's place."""
    usable = bounds[np.isfinite(bounds) & (bounds > 0)]
    if not len(usable):
        raise ResultsError(
            "none of the measured edits has a finite bound above 0. Forecast the study again."
        )
    whole = np.where(np.isnan(bounds), np.inf, bounds)
    return cast(Floats, np.log(np.clip(whole, usable.min(), usable.max())))


def _groups(edits: Outcomes) -> list[list[NDArray[np.int64]]]:
    """Return the edits' places, of each model those of each subject."""
    found = []
    for model in np.unique(edits.models):
        ours = np.flatnonzero(edits.models == model)
        order = ours[np.argsort(edits.subjects[ours], kind="stable")]
        _, starts = np.unique(edits.subjects[order], return_index=True)
        found.append(np.split(order, starts[1:]))
    return found


def _drawn(
    edits: Outcomes, groups: list[list[NDArray[np.int64]]], generator: np.random.Generator
) -> Outcomes:
    """Return a bootstrap sample: models with replacement, of each its subjects likewise.

    Of a single model its subjects alone are drawn. A model that is drawn twice counts twice.
    """
    n_models = len(groups)
    chosen = generator.choice(n_models, n_models) if n_models > 1 else range(1)
    places, names = [], []
    for name, model in enumerate(chosen):
        ours = groups[model]
        picked = [ours[k] for k in generator.integers(len(ours), size=len(ours))]
        places += picked
        names += [name] * sum(map(len, picked))
    sample = edits.where(np.concatenate(places))
    return dataclasses.replace(sample, models=np.array(names, dtype=np.int64))


def _share(odds: float) -> float:
    """Return the probability of log odds."""
    return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0  # noqa: PLR2004  exp's range
