"""The normal equation by itself: identities, what C leaves open, and numbers that are none."""

import dataclasses

import pytest
import torch

from editcollapse.catalog.editor_presets import IDENTITY_SHARE, JointSettings
from editcollapse.catalog.editors import EDITORS, JointEditor
from editcollapse.catalog.presets import ValueSettings
from editcollapse.editors.normal_equation import NormalEquation
from editcollapse.editors.past_keys import PastKeys
from editcollapse.editors.restraints import masked, restrained, restrained_values
from editcollapse.errors import MomentError
from tests.support.cases import TIGHT, distance, drawing, some_moment

JOINT = {name: row for name, row in EDITORS.items() if isinstance(row, JointEditor)}
K, D, N = 24, 16, 4
C = some_moment(K)


def settings(**other):
    """Return settings of a joint editor."""
    return JointSettings((1,), ValueSettings(), other.pop("second_moment_weight", 0.7), **other)


def equation(name, **other):
    """Return an editor's equation with C."""
    return NormalEquation(C, JOINT[name], settings(**other))


def keys_of(n, seed=7):
    """Return keys, (n, K)."""
    return drawing(seed)(n, K)


@pytest.mark.parametrize("name", JOINT)
def test_one_fact_alone_is_the_joint_edit_of_one(name):
    """What a batch of independent facts writes is what each would write by itself."""
    made, keys = equation(name), keys_of(N)
    each = made.solve_each(keys)
    for n in range(N):
        assert distance(each[n : n + 1], made.solve(keys[n : n + 1])) < TIGHT


@pytest.mark.parametrize("name", [name for name, row in JOINT.items() if row.past != "none"])
def test_steps_of_one_with_their_past_are_one_joint_step(name):
    """Recursive least squares: n steps that know their past end where one joint step ends.

    Keys and targets are those of the unedited model; each residual is what is missing of its target
    on the weights as they are.
    """
    made, keys, targets = equation(name), keys_of(N), drawing(9)(N, D)
    total, past = torch.zeros(D, K, dtype=torch.float64), PastKeys(made)
    for n in range(N):
        key = keys[n : n + 1]
        missing = targets[n : n + 1] - key @ total.T
        total = total + missing.T @ past.solve(key)
        past.add(key)
    assert distance(past.gram, made.gram(keys)) < TIGHT  # S is the sum of its batches
    assert distance(total, targets.T @ made.solve(keys)) < 100 * TIGHT


def test_small_lambda_meets_the_constraint():
    """MEMIT of one fact with lambda near 0 writes the whole residual at the key, as C-ROME does."""
    key, residual = keys_of(1), drawing(3)(1, D)
    written = residual.T @ equation("memit", second_moment_weight=1e-9).solve(key)
    assert distance(key @ written.T, residual) < 1e-6
    half = NormalEquation(C, JOINT["memit"], settings(second_moment_weight=1.0))
    share = float(torch.linalg.solve(C, key[0]) @ key[0])
    found = float((key @ half.solve(key).T)[0, 0])
    assert found == pytest.approx(share / (1 + share), rel=TIGHT)


def test_what_is_left_open_is_worked_out_from_the_moment():
    """L2 is tr(P C), P keeps 70 % of the directions, lambda_n is 0.01 of lambda C's mean."""
    made = equation("alphaedit")
    assert made.kept_dimensions == int(0.7 * K)
    smallest = torch.linalg.eigvalsh(C)[: int(0.7 * K)]
    assert made.ridge == pytest.approx(float(smallest.sum()), rel=TIGHT)
    assert equation("memit").kept_dimensions is None
    mean = float(C.diagonal().mean())
    assert equation("encore").ridge == pytest.approx(IDENTITY_SHARE * 0.7 * mean, rel=TIGHT)
    assert equation("encore", identity_weight=2.0).ridge == 2.0
    assert equation("nas", nullspace_threshold=1e9, ridge=3.0).kept_dimensions == K


@pytest.mark.parametrize("name", JOINT)
def test_keys_that_are_no_numbers_give_none(name):
    """A collapsed model's keys may be nan: then so is what would be written, and nothing raises."""
    made, keys = equation(name), keys_of(2)
    keys[1, 0] = torch.nan
    found = made.solve(keys)
    assert found.shape == keys.shape
    assert bool(found.isnan().any())
    assert bool(made.solve_each(keys)[1].isnan().all())
    past = PastKeys(made)
    past.add(keys_of(3, 5))
    assert bool(past.solve(keys).isnan().all())
    past.add(keys)
    assert bool(past.solve(keys_of(2)).isnan().all())


WITH_PAST = [name for name, row in JOINT.items() if row.past != "none"]


@pytest.mark.parametrize("sizes", [(1,), (1, 1, 1), (2, 1, 4, 3), (9, 1), (1, 30, 2)])
@pytest.mark.parametrize("name", WITH_PAST)
def test_a_past_is_solved_with_as_the_whole_matrix(name, sizes):
    """Steps of any size, folded in or not: X is (M + S + K Kᵀ)⁻¹ K, as one dense solve gives it."""
    made, past, before = equation(name), PastKeys(equation(name)), [torch.empty(0, K).double()]
    basis = made.whole(torch.eye(made.size, dtype=torch.float64))  # (M, K)
    ridge = made.ridge * torch.eye(made.size, dtype=torch.float64)
    base = ridge if JOINT[name].projected else ridge + 0.7 * C
    for seed, size in enumerate(sizes):
        keys = keys_of(size, seed)
        seen = torch.cat([*before, keys]) @ basis.T
        plain = torch.linalg.solve(base + seen.T @ seen, (keys @ basis.T).T).T @ basis
        assert distance(past.solve(keys), plain) < TIGHT
        past.add(keys)
        before.append(keys)


@pytest.mark.parametrize("n_keys", [3, 40])
@pytest.mark.parametrize("name", WITH_PAST)
def test_a_past_is_read_back_as_stored(name, n_keys):
    """Keys while they are smaller, their sum after that: both give the same solutions."""
    made, past = equation(name), PastKeys(equation(name))
    for key in keys_of(n_keys, 3):
        past.add(key[None])
    stored = past.tensors(1)
    assert list(stored) == ["past.1" if n_keys == 3 else "gram.1"]
    again = PastKeys(made)
    again.read(1, stored)
    again.settle()
    assert distance(again.solve(keys_of(2)), past.solve(keys_of(2))) < TIGHT
    kept = again.copied()
    again.add(keys_of(5, 11))
    assert distance(kept.solve(keys_of(2)), past.solve(keys_of(2))) < TIGHT


def test_unusable_moments_are_told():
    """A singular C, and a threshold that keeps nothing, say what to do."""
    singular = torch.zeros(K, K, dtype=torch.float64)
    with pytest.raises(MomentError, match=r"set `covariance\.damping`"):
        NormalEquation(singular, JOINT["memit"], settings())
    with pytest.raises(MomentError, match="no eigenvalue of C is below"):
        equation("alphaedit", nullspace_threshold=1e-12)


def test_mask_keeps_its_share_of_the_entries():
    """RECT keeps the entries of largest relative change, 40 % of them and the one at the bound."""
    draw = drawing(4)
    change, weight = draw(D, K), draw(D, K)
    kept = masked(change, weight, 0.4)
    n_kept = int((kept != 0).sum())
    assert n_kept == D * K - int(0.6 * D * K) + 1
    relative = (change / (weight + 1e-8)).abs()
    assert float(relative[kept != 0].min()) >= float(relative[kept == 0].max())
    both = torch.stack([change, 2 * change])
    assert torch.equal(masked(both, weight, 0.4)[1], 2 * kept)


@pytest.mark.parametrize("how", ["linear", "log", "log2", "log1_5", "log1_2"])
def test_restraint_draws_in_what_is_above(how):
    """Singular values up to W's largest stay, bit by bit; those above are drawn in, in order."""
    draw = drawing(6)
    left, _ = torch.linalg.qr(draw(D, D))
    right, _ = torch.linalg.qr(draw(K, D))
    values = torch.linspace(0.5, 8.0, D, dtype=torch.float64)
    total = (left * values) @ right.T
    found = torch.linalg.svdvals(restrained(total, 4.0, how)).flip(0)
    expected = restrained_values(values, 4.0, how)
    assert distance(found, expected.sort().values) < TIGHT
    assert torch.equal(expected[values < 4], values[values < 4])
    if how != "log1_2":  # its slope at 4 is above 1: as published, it draws in from 5.5 on
        assert bool((expected[values > 4] < values[values > 4]).all())
    assert restrained(total, 100.0, how) is total
    broken = total.clone()
    broken[0, 0] = torch.nan
    assert restrained(broken, 4.0, how) is broken


def test_settings_are_compared_by_value():
    """Two equal sets of settings are one; the rows are data."""
    assert settings() == settings()
    assert dataclasses.replace(settings(), ridge=1.0) != settings()
