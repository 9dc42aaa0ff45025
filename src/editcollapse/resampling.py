"""Numbers about two groups of requests with 95 % intervals: bootstrap of subjects, and Wilson's.

Requests of one subject share keys, so whole subjects are drawn, in each group as many as it has. A
resample is a row of weights: how often each request is in it. A statistic of N requests takes S
rows of weights and gives S numbers; with every weight 1 it is the plain statistic.

Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), ch. 13 (percentile interval)
and ch. 8 (groups of observations); Wilson (1927).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from editcollapse.key_kinds import Flags, Numbers

N_RESAMPLES = 2000
BOOTSTRAP = f"percentile bootstrap of {N_RESAMPLES} resamples of subjects"
WILSON = "Wilson score"
_TAILS = (0.025, 0.975)

Statistic = Callable[[Numbers], Numbers]
"""Takes weights (S, N), gives S numbers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float
    interval: str
    """How the interval was made."""


class Resamples:
    """Resamples of N requests in two groups.

    Args:
        subjects: of each request; requests of one subject go together.
        in_group: bool (N,): the group; all others are the other group.
        seed: of the draws.
    """

    def __init__(self, subjects: Sequence[str], in_group: Flags, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self._weights: Numbers = np.zeros((N_RESAMPLES, len(subjects)))
        for side in (in_group, ~in_group):
            members = [int(n) for n in np.flatnonzero(side)]
            names = {name: n for n, name in enumerate(dict.fromkeys(subjects[m] for m in members))}
            of_member = [names[subjects[member]] for member in members]
            drawn = generator.multinomial(
                len(names), np.full(len(names), 1 / len(names)), size=N_RESAMPLES
            )
            self._weights[:, members] = drawn[:, of_member]

    def estimate(self, statistic: Statistic) -> Estimate:
        """Return a statistic of the requests with its percentile interval."""
        value = float(statistic(np.ones((1, self._weights.shape[1])))[0])
        low, high = np.quantile(statistic(self._weights), _TAILS)
        return Estimate(value, float(low), float(high), BOOTSTRAP)


def share(n_hits: int, n_all: int) -> Estimate:
    """Return a share with its Wilson score interval; ``n_all`` is at least 1."""
    reach = stats.binomtest(n_hits, n_all).proportion_ci(method="wilson")
    return Estimate(n_hits / n_all, float(reach.low), float(reach.high), WILSON)


def weighted_median(values: Numbers, weights: Numbers) -> Numbers:
    """Return the medians of values that stand there as often as their weights say, (S,).

    Args:
        values: float64 (N,).
        weights: whole numbers (S, N), none of the rows all 0.
    """
    order = np.argsort(values)
    reached = weights[:, order].cumsum(axis=1)
    half = reached[:, -1:] / 2
    lower = values[order][(reached >= half).argmax(axis=1)]
    upper = values[order][(reached > half).argmax(axis=1)]
    middle: Numbers = (lower + upper) / 2
    return middle


def median_ratio(values: Numbers, in_group: Flags) -> Statistic:
    """Return the statistic: the group's median over the others'.

    Args:
        values: float64 (N,), positive.
        in_group: bool (N,).
    """

    def statistic(weights: Numbers) -> Numbers:
        with np.errstate(divide="ignore", invalid="ignore"):
            return weighted_median(values[in_group], weights[:, in_group]) / weighted_median(
                values[~in_group], weights[:, ~in_group]
            )

    return statistic


def median_of(values: Numbers, chosen: Flags) -> Statistic:
    """Return the statistic: the median of the chosen requests' values."""
    return lambda weights: weighted_median(values[chosen], weights[:, chosen])


def silhouette(vectors: Numbers, in_group: Flags) -> Statistic:
    """Return the statistic: the mean silhouette of two groups, by cosine distance.

    A request's copies in a resample are not its neighbours: they would bring every group together.

    Args:
        vectors: float64 (N, K), none of length 0.
        in_group: bool (N,), at least two requests on either side.

    Source: Rousseeuw, Silhouettes (1987).
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    np.fill_diagonal(distance, 0.0)

    def statistic(weights: Numbers) -> Numbers:
        within, beyond = np.empty_like(weights), np.empty_like(weights)
        for side in (in_group, ~in_group):
            total = weights[:, side].sum(axis=1, keepdims=True)
            away = weights[:, side] @ distance[side]
            with np.errstate(divide="ignore", invalid="ignore"):
                within[:, side] = (away / (total - weights))[:, side]
                beyond[:, ~side] = (away / total)[:, ~side]
        with np.errstate(invalid="ignore"):
            each = (beyond - within) / np.maximum(within, beyond)
        # A request that is alone in its group, but for its copies, has the silhouette 0.
        each = np.where(np.isfinite(each), each, 0.0)
        mean: Numbers = (weights * each).sum(axis=1) / weights.sum(axis=1)
        return mean

    return statistic
