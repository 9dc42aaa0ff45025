"""Statistics of two groups against hand computations, scikit-learn and repeated rows."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from editcollapse.anatomy.statistics import (
    Resamples,
    median_of,
    median_ratio,
    share,
    silhouette,
    weighted_median,
)

_GROUP = np.array([True] * 4 + [False] * 6)
_VALUES = np.array([1.0, 2.0, 3.0, 8.0, 10.0, 20.0, 30.0, 40.0, 50.0, 70.0])
_SUBJECTS = [f"subject-{n}" for n in range(10)]


def points(seed=0, n=10, k=5):
    """Return random vectors, those of the group shifted."""
    vectors = np.random.default_rng(seed).normal(size=(n, k))
    vectors[_GROUP[:n], 0] += 2
    return vectors


def test_weighted_median_is_that_of_repeated_values():
    """A weight counts how often a value stands there; even counts take the mean of two."""
    weights = np.random.default_rng(1).integers(0, 4, size=(40, 10)).astype(float)
    weights[:, 0] += 1  # none of the rows is empty
    expected = [np.median(np.repeat(_VALUES, row.astype(int))) for row in weights]
    assert weighted_median(_VALUES, weights).tolist() == expected


def test_ratio_of_medians():
    """Medians 2.5 and 35 by hand."""
    assert median_ratio(_VALUES, _GROUP)(np.ones((1, 10)))[0] == 2.5 / 35
    assert median_of(_VALUES, ~_GROUP)(np.ones((1, 10)))[0] == 35


def test_silhouette_is_scikit_learns():
    """Unweighted it is the field's own, to rounding."""
    vectors = points()
    expected = silhouette_score(vectors, _GROUP, metric="cosine")
    assert silhouette(vectors, _GROUP)(np.ones((1, 10)))[0] == pytest.approx(expected, abs=1e-12)


def test_silhouette_by_hand():
    """Two directions at right angles: 1 within nothing, 1 away, so 1; all alike gives 0."""
    apart = np.array([[1.0, 0], [2, 0], [0, 1], [0, 3]])
    group = np.array([True, True, False, False])
    assert silhouette(apart, group)(np.ones((1, 4)))[0] == 1
    assert silhouette(np.ones((4, 2)), group)(np.ones((1, 4)))[0] == pytest.approx(0, abs=1e-9)


def test_copies_of_a_request_bring_no_group_together():
    """A resample's silhouette leaves a request's own copies out of its neighbours."""
    vectors = points(seed=2)
    weights = np.ones((1, 10))
    weights[0, [0, 5]] = 3
    distance = 1 - (v := vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) @ v.T
    total, count = 0.0, 0.0
    for i in range(10):
        own = [j for j in range(10) if _GROUP[j] == _GROUP[i] and j != i]
        other = [j for j in range(10) if _GROUP[j] != _GROUP[i]]
        a = np.average(distance[i, own], weights=weights[0, own])
        b = np.average(distance[i, other], weights=weights[0, other])
        total += weights[0, i] * (b - a) / max(a, b)
        count += weights[0, i]
    found = silhouette(vectors, _GROUP)(weights)[0]
    assert found == pytest.approx(total / count, abs=1e-12)
    repeated = np.repeat(np.arange(10), weights[0].astype(int))
    naive = silhouette_score(vectors[repeated], _GROUP[repeated], metric="cosine")
    assert naive > found + 0.01


def test_interval_is_the_same_every_time_and_holds_the_value():
    """Seeded; another seed gives another interval; the plain statistic lies inside."""
    ratio = median_ratio(_VALUES, _GROUP)
    first = Resamples(_SUBJECTS, _GROUP, 0).estimate(ratio)
    assert first == Resamples(_SUBJECTS, _GROUP, 0).estimate(ratio)
    assert first != Resamples(_SUBJECTS, _GROUP, 1).estimate(ratio)
    assert first.low < first.value == 2.5 / 35 < first.high
    assert first.interval == "percentile bootstrap of 2000 resamples of subjects"


def test_interval_is_that_of_scipy():
    """With one request a subject it agrees with the field's own percentile bootstrap."""
    from scipy import stats

    values = np.random.default_rng(3).normal(10, 2, size=80)
    group = np.arange(80) < 40
    names = [str(n) for n in range(80)]
    ours = Resamples(names, group, 0).estimate(median_of(values, group))
    theirs = stats.bootstrap(
        (values[group],), np.median, n_resamples=2000, method="percentile", rng=0
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.15)
    assert ours.high == pytest.approx(theirs.high, abs=0.15)


def test_requests_of_one_subject_go_together():
    """Ten requests of one subject tell as much as one: its median has no spread."""
    subjects = ["one"] * 4 + _SUBJECTS[4:]
    found = Resamples(subjects, _GROUP, 0).estimate(median_of(_VALUES, _GROUP))
    assert found.low == found.value == found.high == 2.5


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(0, 10, 0.0, 0.277533), (1, 10, 0.017876, 0.404150), (10, 10, 0.722467, 1.0)],
)
def test_share_has_wilsons_interval(k, n, low, high):
    """The known values, as the database's macro has them."""
    found = share(k, n)
    assert found.value == k / n
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)
