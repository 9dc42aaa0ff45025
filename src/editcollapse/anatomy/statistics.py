"""Two groups of requests compared: observations with 95 % intervals, each a number and a sentence.

Requests of one subject share keys, so whole subjects are drawn, in each group as many as it has. A
resample is a row of weights: how often each request is in it. A statistic of N requests takes S
rows of weights and gives S numbers; with every weight 1 it is the plain statistic.

Sources: Efron & Tibshirani, An Introduction to the Bootstrap (1993), ch. 13 (percentile interval)
and ch. 8 (groups of observations); Wilson (1927). What is observed: C-ROME (arXiv 2406.11263),
abstract and README of its code: inconsistent keys make the denominator tiny, and bare keys of
subjects that come first lie unlike prefixed ones.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from scipy import stats

from editcollapse.anatomy.keys import Flags, KeyKinds, Numbers

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


Grouping = Literal["first_token", "collapsed"]
MIN_SUBJECTS = 5
"""Subjects on either side, at least; fewer have no interval to speak of, and are not compared."""
_STRUCTURE = 0.25
"""Mean silhouette up to which there is no structure (Kaufman & Rousseeuw, Finding Groups in Data,
1990, table 4)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Words:
    """Names of the two groups in sentences."""

    group: str
    others: str


_WORDS: dict[Grouping, Words] = {
    "first_token": Words("first-token subjects", "other subjects"),
    "collapsed": Words("collapsed edits", "normal edits"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """One number about two groups."""

    name: str
    estimate: Estimate
    n_group: int
    n_others: int
    statement: str


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """N requests in two groups, with what is known of each."""

    grouping: Grouping
    in_group: Flags
    keys: KeyKinds
    numerators: Numbers
    """‖r‖ of ROME's edit, (N,); nan where it was not made."""
    subjects: Sequence[str]

    @property
    def is_enough(self) -> bool:
        """Whether either side has subjects enough to be compared."""
        members: set[tuple[str, bool]] = set(
            zip(self.subjects, self.in_group.tolist(), strict=True)
        )
        n_group = sum(1 for _, in_group in members if in_group)
        return min(n_group, len(members) - n_group) >= MIN_SUBJECTS


def observe(compared: Compared, seed: int) -> Iterator[Observation]:
    """Yield all observations of two groups; nothing where one of them is too small.

    Args:
        compared: the requests.
        seed: of the intervals.
    """
    if not compared.is_enough:
        return
    words, group, keys = _WORDS[compared.grouping], compared.in_group, compared.keys
    resamples = Resamples(compared.subjects, group, seed)
    counts = int(group.sum()), int((~group).sum())
    denominators = resamples.estimate(median_ratio(np.abs(keys.bare_dot), group))
    yield Observation(
        "denominator_ratio", denominators, *counts, _ratio("|k0 . u|", denominators, words)
    )
    if not np.isnan(compared.numerators).any():
        numerators = resamples.estimate(median_ratio(compared.numerators, group))
        yield Observation(
            "numerator_ratio", numerators, *counts, _ratio("ROME's ||r||", numerators, words)
        )
    for name, symbol, vectors in (
        ("bare_silhouette", "k0", keys.bare),
        ("prefixed_silhouette", "kbar", keys.prefixed),
        ("solved_silhouette", "C^-1 kbar", keys.solved),
    ):
        apart = resamples.estimate(silhouette(vectors, group))
        yield Observation(name, apart, *counts, _apart(symbol, apart, words))
    for name, chosen, who in (
        ("key_cosine_group", group, words.group),
        ("key_cosine_others", ~group, words.others),
    ):
        cosine = resamples.estimate(median_of(keys.key_cosine, chosen))
        statement = f"k0 and kbar of {who} have a cosine of {_with_interval(cosine)} in the median."
        yield Observation(name, cosine, *counts, statement)
    yield from _by_centre(compared, words, counts)


def _by_centre(compared: Compared, words: Words, counts: tuple[int, int]) -> Iterator[Observation]:
    """Yield where first tokens, and keys behind a prefix, lie between the mean k0 of both sides."""
    group, keys = compared.in_group, compared.keys
    centre, other = keys.bare[group].mean(axis=0), keys.bare[~group].mean(axis=0)

    def with_group(vectors: Numbers) -> Flags:
        near: Flags = np.linalg.norm(vectors - centre, axis=1) < np.linalg.norm(
            vectors - other, axis=1
        )
        return near

    # A key at the first place depends on its token alone: each token counts once.
    wanted = np.flatnonzero(~group & ~np.isnan(keys.first_token).any(axis=1))
    firsts = list({keys.first_ids[n]: n for n in reversed(wanted.tolist())}.values())
    if firsts:
        n_near = int(with_group(keys.first_token[firsts]).sum())
        found = share(n_near, len(firsts))
        yield Observation(
            "first_tokens_with_group",
            found,
            counts[0],
            len(firsts),
            f"Of {len(firsts)} different first tokens of prompts of {words.others}, {n_near} have "
            f"a key nearer to the mean k0 of {words.group} than to that of {words.others}: "
            f"a share of {_with_interval(found)}.",
        )
    behind = keys.one_prefix[group & ~np.isnan(keys.one_prefix).any(axis=1)]
    if len(behind):
        n_moved = int((~with_group(behind)).sum())
        found = share(n_moved, len(behind))
        yield Observation(
            "one_prefix_with_others",
            found,
            len(behind),
            counts[1],
            f"Behind one prefix, {n_moved} of {len(behind)} keys of {words.group} are nearer to "
            f"the mean k0 of {words.others}: a share of "
            f"{_with_interval(found)}.",
        )


def _ratio(symbol: str, found: Estimate, words: Words) -> str:
    """Return the sentence of a ratio of medians, which 1 means equal."""
    which = "not told apart from that"
    if found.high < 1:
        which = "smaller than that"
    elif found.low > 1:
        which = "larger than that"
    return (
        f"The median {symbol} of {words.group} is {which} of {words.others}: "
        f"{_with_interval(found)} times as large."
    )


def _apart(symbol: str, found: Estimate, words: Words) -> str:
    """Return the sentence of a silhouette."""
    which = "lie partly apart from"
    if found.low > _STRUCTURE:
        which = "lie apart from"
    elif found.high <= _STRUCTURE:
        which = "do not lie apart from"
    return (
        f"{symbol} of {words.group} {which} those of {words.others}: mean silhouette "
        f"{_with_interval(found)}, with structure from {_STRUCTURE:g} on."
    )


def _with_interval(found: Estimate) -> str:
    """Return a number with its interval."""
    return f"{found.value:.3g} ({found.low:.3g} to {found.high:.3g})"
