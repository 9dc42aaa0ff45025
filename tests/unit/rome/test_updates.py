"""Identities that every update must satisfy, whatever the model: the algebra of the family."""

import math

import pytest
import torch

from editcollapse.catalog.methods import METHODS
from editcollapse.covariance.second_moment import MomentSolver
from editcollapse.rome.updates import no_update, rank_one_updates
from editcollapse.rome.values import TargetValues
from tests.support.cases import LAYER, TIGHT, distance, some_moment, some_values

CLAMP = 4.0


@pytest.fixture(params=["gpt2", "llama", "llama_square"])
def model(request, tiny_model):
    """Return a tiny model: with bias, without, and with a square weight."""
    return tiny_model(request.param)


@pytest.fixture
def values(model):
    """Return the target values of the test requests."""
    return some_values(model)


@pytest.fixture
def moment(model):
    """Return a second moment for the model."""
    return some_moment(model.widths.d_key)


def updates_of(model, values, name, moment):
    """Return one method's updates and diagnostics."""
    weight = model.weight(LAYER)
    return rank_one_updates(values, METHODS[name], MomentSolver(moment), weight, CLAMP)


def edited_value(model, updates, b, key):
    """Return W'k, bias included, by the multiplied-out update."""
    bias = getattr(model.down_projection(LAYER), "bias", None)
    value = (model.weight(LAYER) + updates.matrix(b)) @ key
    return value if bias is None else value + bias


def test_rome_maps_the_bare_key_to_the_target(model, values, moment):
    """After ROME, and after p-ROME, W'k0 = v0 + delta."""
    for name in ("rome", "p_rome"):
        updates, _ = updates_of(model, values, name, moment)
        for b in range(len(updates)):
            found = edited_value(model, updates, b, values.bare_key[b])
            assert distance(found, values.bare_value[b] + values.delta[b]) < TIGHT


def test_rome_amplifies_delta_on_prefixed_keys(model, values, moment):
    """After ROME, W'kbar = W kbar + delta / rho: the collapse in one line."""
    updates, found = updates_of(model, values, "rome", moment)
    for b in range(len(updates)):
        response = edited_value(model, updates, b, values.prefixed_key[b])
        expected = values.prefixed_value[b] + values.delta[b] / found.rho[b]
        assert distance(response, expected) < TIGHT


def test_c_rome_maps_the_mean_key_to_the_target(model, values, moment):
    """After C-ROME, W'kbar = v0 + delta, and the bare prompt gets v0 + rho r."""
    updates, found = updates_of(model, values, "c_rome", moment)
    residual = values.bare_value + values.delta - values.prefixed_value
    for b in range(len(updates)):
        target = values.bare_value[b] + values.delta[b]
        response = edited_value(model, updates, b, values.prefixed_key[b])
        assert distance(response, target) < TIGHT
        bare = edited_value(model, updates, b, values.bare_key[b])
        assert distance(bare, values.bare_value[b] + found.rho[b] * residual[b]) < TIGHT


def test_v_relative_adds_delta_to_the_mean_value(model, values, moment):
    """After v-relative, W'kbar = W kbar + delta: no offset that the edit did not ask for."""
    updates, _ = updates_of(model, values, "v_relative", moment)
    for b in range(len(updates)):
        response = edited_value(model, updates, b, values.prefixed_key[b])
        assert distance(response, values.prefixed_value[b] + values.delta[b]) < TIGHT


def test_r_rome_is_c_rome(model, values, moment):
    """The two names of one rule give bit-equal updates."""
    one, _ = updates_of(model, values, "r_rome", moment)
    two, _ = updates_of(model, values, "c_rome", moment)
    assert torch.equal(one.left, two.left)
    assert torch.equal(one.right, two.right)


def test_one_bare_template_makes_the_methods_one(model, values, moment):
    """Where the bare prompt is the only context, rho is 1 and all methods write the same update."""
    alone = TargetValues(
        prompt_keys=values.prompt_keys[:, :1],
        prompt_values=values.prompt_values[:, :1],
        delta=values.delta,
        loss=values.loss,
        n_steps=values.n_steps,
        clamp_hit=values.clamp_hit,
    )
    rome, found = updates_of(model, alone, "rome", moment)
    assert distance(found.rho, torch.ones(len(rome), dtype=torch.float64)) < TIGHT
    assert distance(found.key_cosine, torch.ones(len(rome), dtype=torch.float64)) < TIGHT
    for name in METHODS:
        other, _ = updates_of(model, alone, name, moment)
        assert distance(other.matrix(0), rome.matrix(0)) < TIGHT


@pytest.mark.parametrize("name", METHODS)
def test_scale_of_the_moment_is_irrelevant(model, values, moment, name):
    """Replacing C by cC leaves every update as it is: only its shape counts."""
    plain, _ = updates_of(model, values, name, moment)
    scaled, _ = updates_of(model, values, name, 1e6 * moment)
    for b in range(len(plain)):
        assert distance(scaled.matrix(b), plain.matrix(b)) < TIGHT


@pytest.mark.parametrize("name", METHODS)
def test_no_moment_is_the_identity(model, values, name):
    """Skipping C⁻¹ is the same as C = I."""
    skipped, _ = updates_of(model, values, name, None)
    identity, _ = updates_of(
        model, values, name, torch.eye(model.widths.d_key, dtype=torch.float64)
    )
    for b in range(len(skipped)):
        assert distance(skipped.matrix(b), identity.matrix(b)) < TIGHT


@pytest.mark.parametrize("name", METHODS)
def test_norms_and_denominators(model, values, moment, name):
    """The update's Frobenius norm is |r| / |a·u|, u has unit length, and rho is a ratio of dots."""
    updates, found = updates_of(model, values, name, moment)
    weight_norm = float(model.weight(LAYER).norm())
    for b in range(len(updates)):
        norm = float(updates.matrix(b).norm())
        assert norm == pytest.approx(float(found.update_norm[b]), rel=TIGHT)
        assert norm / weight_norm == pytest.approx(float(found.relative_update_norm[b]), rel=TIGHT)
        ratio = float(found.numerator_norm[b]) / abs(float(found.denominator[b]))
        assert norm == pytest.approx(ratio, rel=TIGHT)
        assert float(updates.right[b].norm()) == pytest.approx(1.0, rel=TIGHT)
    assert distance(found.rho, found.bare_key_dot / found.prefixed_key_dot) < TIGHT
    divided = METHODS[name].divide_with
    expected = found.bare_key_dot if divided == "bare" else found.prefixed_key_dot
    assert torch.equal(found.denominator, expected)


@pytest.mark.parametrize("clamp", [0.05, 0.5, CLAMP])
def test_bound_holds_for_every_rome_edit(model, moment, clamp):
    """A ROME update is at most clamp·|v0| / |k0·u|, and exactly that where delta was cut."""
    values = some_values(model, clamp_factor=clamp)
    solver = MomentSolver(moment)
    weight = model.weight(LAYER)
    _, found = rank_one_updates(values, METHODS["rome"], solver, weight, clamp)
    assert bool((found.update_norm <= found.update_norm_bound * (1 + TIGHT)).all())
    at_edge = values.delta.norm(dim=1) >= clamp * values.bare_value.norm(dim=1) * (1 - TIGHT)
    assert bool(at_edge.all()) == (clamp == 0.05)
    assert distance(found.update_norm[at_edge], found.update_norm_bound[at_edge]) < TIGHT


def test_orthogonal_keys_are_unmoved(model, values, moment):
    """A key with k·C⁻¹b = 0 has the same value before and after the edit."""
    solver = MomentSolver(moment)
    for name in METHODS:
        updates, _ = updates_of(model, values, name, moment)
        solved_with = values.bare_key if name == "p_rome" else values.prefixed_key
        for b in range(len(updates)):
            solved = solver.solve(solved_with[b : b + 1])[0]
            key = values.prompt_keys[b, -1]
            key = key - (key @ solved) / (solved @ solved) * solved
            assert float((updates.matrix(b) @ key).abs().max()) < TIGHT


def test_zero_denominator_gives_infinite_entries(model, values):
    """A key that is zero divides by zero; the infinity is kept for the evaluation to report."""
    keys = values.prompt_keys.clone()
    keys[:, 0] = 0
    broken = TargetValues(
        keys, values.prompt_values, values.delta, values.loss, values.n_steps, values.clamp_hit
    )
    updates, found = updates_of(model, broken, "rome", None)
    assert bool(updates.left.isinf().all())
    assert math.isinf(float(found.update_norm[0]))


def test_no_update_changes_nothing(model):
    """The unedited model is one update of zeros."""
    nothing = no_update(model.widths)
    assert len(nothing) == 1
    assert not nothing.matrix(0).any()
    assert nothing.matrix(0).shape == model.weight(LAYER).shape
