"""Batched edits are the published one-edit-at-a-time procedure, for every family."""

import pytest
import torch

from editcollapse.catalog.methods import METHODS
from editcollapse.covariance.second_moment import MomentSolver
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.rome.updates import rank_one_updates
from editcollapse.rome.values import optimise_values
from tests.support import reference
from tests.support.cases import (
    LAYER,
    REQUESTS,
    TEMPLATES,
    TIGHT,
    Float64Throughout,
    distance,
    reference_settings,
    reference_setup,
    settings,
    some_moment,
)
from tests.support.tiny import VARIANTS

#: What 1e-9 becomes where a float32 cast inside the family can flip a rounding; see cases.
_ROUNDED = 1e-4
_SAME_RULE = {"r_rome": "c_rome"}


def run_ours(loaded, ours, moment, layer=LAYER, requests=REQUESTS):
    """Return the target values and every method's updates of all requests, in one batch."""
    rewrites, unusable = build_rewrites(loaded.encoder, TEMPLATES, requests)
    assert not unusable
    values = optimise_values(HookedLayer(loaded, layer), rewrites, ours)
    solver = MomentSolver(moment)
    updates = {
        name: rank_one_updates(values, method, solver, loaded.weight(layer), ours.clamp_factor)
        for name, method in METHODS.items()
    }
    return values, updates


def check(loaded, ours, moment, tolerance, *, layer=LAYER, requests=REQUESTS):
    """Compare keys, values, losses, steps and updates with the reference."""
    values, updates = run_ours(loaded, ours, moment, layer, requests)
    setup = reference_setup(loaded, layer)
    for b, request in enumerate(requests):
        one = reference.edit(
            setup,
            TEMPLATES,
            request.prompt,
            request.subject,
            request.target_new,
            moment,
            reference_settings(ours),
        )
        assert int(values.n_steps[b]) == len(one.losses) - 1
        assert float(values.loss.total[b]) == pytest.approx(one.losses[-1], rel=tolerance)
        found = {
            "k0": (values.bare_key[b], one.k0),
            "kbar": (values.prefixed_key[b], one.kbar),
            "v0": (values.bare_value[b], one.v0),
            "vbar": (values.prefixed_value[b], one.vbar),
            "delta": (values.delta[b], one.delta),
        }
        for name, (update, diagnostics) in updates.items():
            known = _SAME_RULE.get(name, name)
            found[name] = (update.matrix(b), one.matrices[known])
            denominator = float(diagnostics.denominator[b])
            assert denominator == pytest.approx(one.denominators[known], rel=tolerance)
        far = {name: distance(*pair) for name, pair in found.items()}
        assert max(far.values()) < tolerance, far


@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_of_mixed_requests_equals_reference(tiny_model, variant):
    """Keys, v*, losses, steps and all methods' updates are the reference's in every family."""
    loaded = tiny_model(variant)
    with Float64Throughout():
        check(loaded, settings(), some_moment(loaded.widths.d_key), TIGHT)


@pytest.mark.parametrize("variant", ["gptj", "gpt_neo", "llama", "gemma2"])
def test_families_that_cast_to_float32_agree_to_rounding(tiny_model, variant):
    """With the families' own casts to float32 left in, ours and the reference still agree."""
    loaded = tiny_model(variant)
    check(loaded, settings(steps=3), some_moment(loaded.widths.d_key), _ROUNDED)


@pytest.mark.parametrize("variant", ["gpt2", "gemma3_text"])
def test_first_layer(tiny_model, variant):
    """The first layer, below which nothing runs, is edited alike."""
    loaded = tiny_model(variant)
    with Float64Throughout():
        check(loaded, settings(steps=3), some_moment(loaded.widths.d_key), TIGHT, layer=0)


@pytest.mark.parametrize("variant", ["gpt2", "gemma3_text"])
def test_last_layer(tiny_model, variant):
    """The last layer, above which nothing runs, is edited alike where the subject ends the prompt.

    Elsewhere no target depends on delta there: its gradient is rounding, and Adam magnifies that.
    """
    loaded = tiny_model(variant)
    moment = some_moment(loaded.widths.d_key)
    with Float64Throughout():
        check(loaded, settings(steps=3), moment, TIGHT, layer=2, requests=REQUESTS[3:])


@pytest.mark.parametrize("start_token", ["never", "always"])
def test_start_token_policy(tiny_model, start_token):
    """Forcing a start token on, or off, changes both sides alike."""
    loaded = tiny_model("llama", start_token=start_token)
    assert len(loaded.encoder.start_ids) == {"never": 0, "always": 1}[start_token]
    with Float64Throughout():
        check(loaded, settings(steps=3), some_moment(loaded.widths.d_key), TIGHT)


def test_identity_moment(tiny_model):
    """C = I, as the official repository ships it, is the reference without a moment."""
    check(tiny_model("gpt2"), settings(steps=2), None, TIGHT)


def test_clamped_and_stopped_edits(tiny_model):
    """A tight clamp and a loss that is met at once leave both sides equal."""
    loaded = tiny_model("gpt2")
    moment = some_moment(loaded.widths.d_key)
    check(loaded, settings(clamp_factor=0.2), moment, TIGHT)
    check(loaded, settings(stop_loss=1e9), moment, TIGHT)
    values, updates = run_ours(loaded, settings(stop_loss=1e9), moment)
    assert torch.equal(values.delta, torch.zeros_like(values.delta))
    assert float(updates["rome"][1].update_norm.max()) == 0
