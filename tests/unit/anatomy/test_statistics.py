"""Observations on planted keys: the sentences say what was planted, and the opposite where not."""

import dataclasses

import numpy as np
import pytest

from editcollapse.anatomy.keys import KeyKinds
from editcollapse.anatomy.statistics import Compared, observe

_N, _K = 20, 12


def planted(*, anomalous, seed=0):
    """Return 20 requests, the first 8 in the group, with or without an anomaly of their k0."""
    draw = np.random.default_rng(seed)
    group = np.arange(_N) < 8
    prefixed = draw.normal(size=(_N, _K)) + 1
    bare = prefixed + 0.1 * draw.normal(size=(_N, _K))
    first = draw.normal(size=(_N, _K)) + 1
    if anomalous:
        strange = np.zeros(_K)
        strange[0] = 30
        bare[group] = strange + 0.1 * draw.normal(size=(8, _K))
        first[~group] = strange + 0.1 * draw.normal(size=(12, _K))
        prefixed[:, 0] = 0.05 * draw.normal(size=_N)
    first[group] = np.nan
    keys = KeyKinds(
        bare=bare,
        prefixed=prefixed,
        solved=prefixed,
        one_prefix=prefixed,
        first_token=first,
        first_ids=tuple(n % 5 for n in range(_N)),
        is_first_token=group,
    )
    numerators = np.where(group, 3.0, 2.0)
    return Compared("first_token", group, keys, numerators, [str(n) for n in range(_N)])


def observed(compared):
    """Return the observations by name."""
    return {each.name: each for each in observe(compared, 0)}


def test_planted_anomaly_is_found():
    """Small denominators, k0 apart, kbar and C^-1 kbar not, first tokens with the group."""
    found = observed(planted(anomalous=True))
    assert list(found) == [
        "denominator_ratio",
        "numerator_ratio",
        "bare_silhouette",
        "prefixed_silhouette",
        "solved_silhouette",
        "key_cosine_group",
        "key_cosine_others",
        "first_tokens_with_group",
        "one_prefix_with_others",
    ]
    words = {name: each.statement for name, each in found.items()}
    assert "is smaller than that of other subjects" in words["denominator_ratio"]
    assert found["numerator_ratio"].estimate.value == 1.5
    assert "larger than that of other subjects: 1.5 (1.5 to 1.5)" in words["numerator_ratio"]
    assert "k0 of first-token subjects lie apart from" in words["bare_silhouette"]
    assert "kbar of first-token subjects do not lie apart" in words["prefixed_silhouette"]
    assert "C^-1 kbar of first-token subjects do not lie apart" in words["solved_silhouette"]
    assert found["key_cosine_group"].estimate.high < 0.5 < found["key_cosine_others"].estimate.low
    firsts = found["first_tokens_with_group"]
    assert (firsts.estimate.value, firsts.n_group, firsts.n_others) == (1.0, 8, 5)
    assert firsts.statement.startswith(
        "Of 5 different first tokens of prompts of other subjects, 5"
    )
    moved = found["one_prefix_with_others"]
    assert (moved.estimate.value, moved.n_group, moved.n_others) == (1.0, 8, 12)


def test_without_an_anomaly_the_opposite_is_said():
    """Denominators are not smaller, k0 do not lie apart, first tokens are with neither side."""
    found = observed(planted(anomalous=False))
    assert "smaller" not in found["denominator_ratio"].statement
    assert "k0 of first-token subjects do not lie apart" in found["bare_silhouette"].statement
    assert found["first_tokens_with_group"].estimate.value < 1
    assert found["key_cosine_group"].estimate.low > 0.9


def test_few_on_one_side_are_not_compared():
    """Four subjects in the group are too few, however many their requests; five are enough."""
    compared = planted(anomalous=True)
    four, five = np.arange(_N) < 4, np.arange(_N) < 5
    assert observed(dataclasses.replace(compared, in_group=four)) == {}
    assert observed(dataclasses.replace(compared, in_group=~four)) == {}
    assert "bare_silhouette" in observed(dataclasses.replace(compared, in_group=five))
    twins = [str(n // 2) for n in range(_N)]
    assert observed(dataclasses.replace(compared, subjects=twins)) == {}


def test_collapsed_edits_are_called_so():
    """The other grouping has words of its own, and needs no prefix and no first token."""
    compared = planted(anomalous=True)
    none = np.full((_N, _K), np.nan)
    keys = dataclasses.replace(compared.keys, one_prefix=none, first_token=none)
    found = observed(dataclasses.replace(compared, grouping="collapsed", keys=keys))
    assert "of collapsed edits is smaller than that of normal edits" in (
        found["denominator_ratio"].statement
    )
    assert not {"first_tokens_with_group", "one_prefix_with_others"} & found.keys()


def test_unmade_numerators_are_not_compared():
    """Where one is not known, there is no ratio of them."""
    compared = planted(anomalous=True)
    numerators = compared.numerators.copy()
    numerators[3] = np.nan
    found = observed(dataclasses.replace(compared, numerators=numerators))
    assert "numerator_ratio" not in found
    assert found["denominator_ratio"].estimate.value == pytest.approx(
        observed(compared)["denominator_ratio"].estimate.value
    )
