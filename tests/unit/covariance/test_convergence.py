"""How far directions still move while C takes in tokens, and when that is little enough."""

import pytest
import torch

from editcollapse.covariance.convergence import convergence_row, prefixed_keys, unit_directions
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.study.plan import checkpoints, has_settled
from tests.support.cases import REQUESTS, TEMPLATES, TIGHT, Float64Throughout, distance
from tests.unit.covariance.test_sums import some_keys, sum_of


@pytest.mark.parametrize(
    ("n_shards", "expected"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (11, (1, 2, 4, 8, 11))],
)
def test_checkpoints_double(n_shards, expected):
    """Directions are compared at each doubling of the shards, and at the last shard."""
    assert checkpoints(n_shards) == expected
    assert len(checkpoints(30_000)) == 16


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], False),
        ([0.01], False),
        ([None, 0.01], False),
        ([0.01, None], False),
        ([0.01, 0.2], False),
        ([0.01, 0.01, 0.2, 0.01], False),
        ([0.2, 0.01, 0.02], True),
        ([0.05, 0.05], False),
        ([float("nan"), 0.01], False),
    ],
)
def test_settled_is_twice_in_a_row(changes, expected):
    """The last two changes have to be known and below the bound."""
    assert has_settled(changes, 0.05) is expected


@pytest.mark.parametrize("variant", ["gpt2", "llama", "gemma2", "phi"])
def test_probe_keys_are_means_over_the_contexts(tiny_model, variant):
    """Cut behind the subject and read at several layers at once, they are what full rows give."""
    loaded = tiny_model(variant)
    rewrites, _ = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
    with Float64Throughout():
        found = prefixed_keys(loaded, (0, 2), rewrites, 40)
        for layer, keys in zip((0, 2), found, strict=True):
            hooked = HookedLayer(loaded, layer)
            expected = [
                torch.stack(
                    [
                        hooked.read(torch.tensor([prompt.ids])).key[0, prompt.subject_last]
                        for prompt in rewrite.prompts
                    ]
                ).mean(dim=0)
                for rewrite in rewrites
            ]
            assert distance(keys, torch.stack(expected)) < TIGHT


def test_no_request_gives_no_probe(tiny_model):
    """Without rewrites there are files without rows, one a layer."""
    found = prefixed_keys(tiny_model("gpt2"), (0, 1), [], 40)
    assert [tuple(keys.shape) for keys in found] == [(0, 24), (0, 24)]


def test_direction_is_the_updates():
    """U is C^-1 k with length 1, with the damping that edits solve with."""
    keys, probes = some_keys(40, 6), some_keys(3, 6, seed=1)
    moment = keys.T @ keys / 40
    for damping in (0.0, 0.1):
        damped = moment + damping * moment.diagonal().mean() * torch.eye(6, dtype=torch.float64)
        solved = torch.linalg.solve(damped, probes.T).T
        expected = solved / solved.norm(dim=1, keepdim=True)
        assert distance(unit_directions(sum_of(keys), probes, damping), expected) < TIGHT


def test_singular_moment_has_no_direction():
    """With fewer tokens than key entries, or a dead neuron, there is none; damping gives one."""
    few, probes = sum_of(some_keys(5, 6)), some_keys(3, 6, seed=1)
    assert unit_directions(few, probes, 0.0) is None
    assert unit_directions(few, probes, 0.01) is not None
    dead = some_keys(40, 6)
    dead[:, 2] = 0
    assert unit_directions(sum_of(dead), probes, 0.0) is None
    assert unit_directions(sum_of(some_keys(40, 6)), probes[:0], 0.0) is None


def test_row_has_median_and_largest_change():
    """Changes are lengths of differences of unit vectors; unknown where either is not there."""
    before = torch.eye(3, dtype=torch.float64)
    now = before.clone()
    now[2] = torch.tensor([0.0, 1.0, 0.0])
    now[1] = torch.tensor([0.0, 0.8, 0.6])
    total, probes = sum_of(some_keys(12, 3)), some_keys(3, 3)
    row = convergence_row("c", "p", 4, total, probes, (before, now))
    assert (row.covariance_id, row.probe_set_id, row.n_shards) == ("c", "p", 4)
    assert (row.n_tokens, row.tokens_per_d_key, row.n_probes) == (12, 4.0, 3)
    assert row.median_change == pytest.approx((0.2**2 + 0.6**2) ** 0.5)
    assert row.max_change == pytest.approx(2**0.5)
    for pair in ((None, now), (before, None), (None, None)):
        row = convergence_row("c", "p", 4, total, probes, pair)
        assert (row.median_change, row.max_change) == (None, None)
