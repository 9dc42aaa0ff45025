"""What must hold of the reference of the joint and gradient editors by algebra alone."""

import dataclasses
import random

import pytest
import torch

from editcollapse.catalog.editors import EDITORS, JointEditor
from editcollapse.catalog.methods import METHODS
from editcollapse.forward.rewrites import build_rewrites
from tests.support import reference
from tests.support import reference_editors as oracle
from tests.support.cases import (
    LAYER,
    REQUESTS,
    TEMPLATES,
    TIGHT,
    Float64Throughout,
    distance,
    drawing,
    reference_setup,
    some_moment,
)

#: Conv1D with a bias; a multiplier on the value; a norm behind the MLP.
SOME = ("gpt2", "granite", "gemma2")
JOINT = {name: row for name, row in EDITORS.items() if isinstance(row, JointEditor)}
WITH_PAST = [name for name, row in JOINT.items() if row.past != "none"]
K, N = 24, 3
QUICK = oracle.Settings(steps=2, nullspace_threshold=0.8, mean_value_norm=3.0)


@pytest.fixture(autouse=True)
def _float64_throughout():
    with Float64Throughout():
        yield


def rewrites_of(loaded, requests=REQUESTS, templates=TEMPLATES):
    rewrites, unusable = build_rewrites(loaded.encoder, templates, requests)
    assert not unusable
    return rewrites


def layers_of(loaded):
    """Return two layers, or the one that a family with a norm behind the MLP allows."""
    return (LAYER,) if oracle.has_norm_behind(loaded) else (0, LAYER)


def moments_of(loaded, layers):
    return {layer: some_moment(loaded.widths.d_key, 3 + layer) for layer in layers}


def algebra(seed=7):
    """Return keys (K, N), residuals (16, N) and C (K, K)."""
    draw = drawing(seed)
    return draw(K, N), draw(16, N), some_moment(K)


def few(**other):
    return dataclasses.replace(QUICK, **other)


@pytest.mark.parametrize("variant", SOME)
def test_one_fact_is_met_where_nothing_else_counts(tiny_model, variant):
    """MEMIT of one fact at one layer, lambda near 0: W' k = W k + R, and z becomes z*."""
    loaded = tiny_model(variant)
    settings = few(second_moment_weight=1e-7)
    for templates in (TEMPLATES, TEMPLATES[:1]):
        edited = oracle.copied(loaded)
        [fact] = rewrites_of(loaded, REQUESTS[1:2], templates)
        step = oracle.joint_edit(edited, [fact], JOINT["memit"], settings, moments_of(loaded, [1]))
        key, residual = step.keys[LAYER], step.residuals[LAYER]
        found = (oracle.matrix(edited, LAYER) - oracle.matrix(loaded, LAYER)) @ key
        assert distance(found, residual) < 1e-6
        # What is missing of z* is missing at the bare prompt: met there if its key alone counts.
        met = distance(oracle.read_z(edited, LAYER, fact.prompts[0]), step.targets[0].z)
        assert met < 1e-6 if len(templates) == 1 else met > 1e-3


def test_equality_is_exact_without_a_ridge():
    """EMMET's constraints hold for n facts; with 0.1 I they miss by 0.1 R (G + 0.1 I)⁻¹."""
    keys, residuals, C = algebra()
    exact = oracle.solved(JOINT["emmet"], few(equality_ridge=0.0), keys, C)
    assert distance(residuals @ exact.T @ keys, residuals) < TIGHT
    ridged = oracle.solved(JOINT["emmet"], QUICK, keys, C)
    missed = residuals - residuals @ ridged.T @ keys
    G = keys.T @ torch.linalg.solve(C, keys)
    expected = 0.1 * torch.linalg.solve(G + 0.1 * torch.eye(N).double(), residuals.T).T
    assert distance(missed, expected) < TIGHT
    assert distance(missed, torch.zeros_like(missed)) > 1e-4
    single = keys[:, :1]
    alone = oracle.solved(JOINT["emmet"], QUICK, single, C)
    assert float(alone.T @ single) == pytest.approx(1, rel=TIGHT)


@pytest.mark.parametrize("name", ["alphaedit", "nas"])
def test_projected_updates_leave_the_other_directions_alone(name):
    """DW (I - P) = 0 where L2 > 0, with a past and without."""
    keys, residuals, C = algebra()
    P = oracle.null_projection(C, QUICK.nullspace_threshold)
    assert 0 < round(float(P.trace())) < K
    assert distance(P @ P, P) < TIGHT
    for S in (None, some_moment(K, seed=8)):
        change = residuals @ oracle.solved(JOINT[name], QUICK, keys, C, S).T
        assert float((change - change @ P).abs().max()) < TIGHT * float(change.abs().max())


@pytest.mark.parametrize("variant", SOME)
@pytest.mark.parametrize("name", WITH_PAST)
def test_past_is_the_sum_over_batches(tiny_model, variant, name):
    """S after a sequence is the sum of K Kᵀ, whichever weights the keys are re-read on.

    A layer's keys depend on the layers below it, all written before its keys are read: reading
    them again after the write changes nothing.
    """
    loaded = tiny_model(variant)
    layers, facts = layers_of(loaded), rewrites_of(loaded)
    done = oracle.sequence(
        loaded, [facts[:2], facts[2:]], JOINT[name], few(layers=layers), moments_of(loaded, layers)
    )
    for layer in layers:
        keys = torch.cat([step.keys[layer] for step in done.steps], dim=1)
        assert keys.shape[1] == len(facts)
        assert distance(done.past[layer], keys @ keys.T) < TIGHT
        written = sum(step.changes[layer] for step in done.steps)
        total = oracle.matrix(done.edited, layer) - oracle.matrix(loaded, layer)
        assert distance(total, written) < TIGHT


def test_batches_of_one_with_a_past_are_one_joint_batch():
    """MEMIT_seq is recursive least squares.

    Keys and targets of the unedited model, each residual on the weights as they then are: n
    batches of one give one batch of n. Residuals of the unedited model do not.
    """
    keys, residuals, C = algebra()
    joint = residuals @ oracle.solved(JOINT["memit"], QUICK, keys, C).T
    S = torch.zeros_like(C)
    total, frozen = torch.zeros_like(joint), torch.zeros_like(joint)
    for t in range(N):
        key = keys[:, t : t + 1]
        X = oracle.solved(JOINT["memit_seq"], QUICK, key, C, S)
        total = total + (residuals[:, t : t + 1] - total @ key) @ X.T
        frozen = frozen + residuals[:, t : t + 1] @ X.T
        S = S + key @ key.T
    assert distance(total, joint) < TIGHT
    assert distance(frozen, joint) > 1e-3


def test_encore_without_its_identity_is_memit_seq():
    """Editors that differ by one term agree where that term is nothing."""
    keys, _, C = algebra()
    S = some_moment(K, seed=8)
    both = [
        oracle.solved(JOINT[name], few(identity_weight=0.0), keys, C, S)
        for name in ("encore", "memit_seq")
    ]
    assert distance(*both) < TIGHT
    nothing = [oracle.solved(JOINT[name], QUICK, keys, C, 0 * C) for name in ("memit_seq", "memit")]
    assert distance(*nothing) < TIGHT


@pytest.mark.parametrize("how", ["linear", "log", "log2", "log1_5", "log1_2"])
def test_prune_maps_large_singular_values_alone(how):
    """Those below the largest of W0 stay, those above are mapped into order, directions stay."""
    draw = drawing(9)
    w0 = draw(16, K)
    limit = float(torch.linalg.svdvals(w0)[0])
    U, _, Vh = torch.linalg.svd(draw(16, K), full_matrices=False)
    sigma = limit * torch.tensor([8, 3, 1.5, 0.9, 0.5, 0.1] + 10 * [0.0]).double()
    D = U @ torch.diag(sigma) @ Vh
    found = torch.diag(U.T @ oracle.pruned(D, w0, how) @ Vh.T)
    assert distance(found[3:], sigma[3:]) < TIGHT
    assert bool((found[:3] > limit).all())
    assert bool((found[:2] > found[1:3]).all())
    if how == "linear":
        assert distance(found[:3], (sigma[:3] + limit) / 2) < TIGHT
    if how == "log":
        assert distance(found[:3], (sigma[:3] / limit).log() + limit) < TIGHT
    assert torch.equal(oracle.pruned(D, w0, "none"), D)


def test_prune_in_a_sequence_restrains_the_sum_once(tiny_model):
    """The model ends with W0 + D'; steps before it are MEMIT's."""
    loaded = tiny_model("gpt2")
    facts, moments = rewrites_of(loaded), moments_of(loaded, [LAYER])
    settings = few(second_moment_weight=1e-3)
    done = {
        name: oracle.sequence(loaded, [facts[:1], facts[1:]], JOINT[name], settings, moments)
        for name in ("memit", "prune")
    }
    left = [each.weights[-1][LAYER] for each in done.values()]
    assert torch.equal(*left)
    W0 = oracle.matrix(loaded, LAYER)
    expected = W0 + oracle.pruned(left[0] - W0, W0, "log")
    assert distance(oracle.matrix(done["prune"].edited, LAYER), expected) < TIGHT
    assert torch.equal(oracle.matrix(done["memit"].edited, LAYER), left[0])


def test_mask_keeps_its_share(tiny_model):
    """RECT keeps 40 % of the entries, those of largest relative change, and as they are."""
    draw = drawing(10)
    change, weight = draw(16, K), draw(16, K)
    found = oracle.masked(change, weight, 0.4)
    kept = found != 0
    assert abs(float(kept.double().mean()) - 0.4) < 2 / change.numel()
    assert torch.equal(found[kept], change[kept])
    ratio = (change / weight).abs()
    assert float(ratio[kept].min()) > float(ratio[~kept].max())

    loaded = tiny_model("gpt2")
    layers, facts = layers_of(loaded), rewrites_of(loaded)
    steps = {}
    for name in ("memit", "rect"):
        edited = oracle.copied(loaded)
        settings, moments = few(layers=layers), moments_of(loaded, layers)
        steps[name] = oracle.joint_edit(edited, facts, JOINT[name], settings, moments)
    for layer in layers:
        whole, some = (steps[name].changes[layer] for name in ("memit", "rect"))
        expected = oracle.masked(whole, oracle.matrix(loaded, layer), 0.4)
        assert torch.equal(some, expected)
    total = oracle.matrix(edited, LAYER) - oracle.matrix(loaded, LAYER)
    assert distance(total, some) < TIGHT


@pytest.mark.parametrize("variant", ["gpt2", "gemma2"])
def test_delta_is_that_of_the_rank_one_reference(tiny_model, variant):
    """At one layer the stream moves by what the value moves: v* and z* differ by their norms."""
    loaded = tiny_model(variant)
    [fact] = rewrites_of(loaded, REQUESTS[1:2])
    free = few(steps=4, weight_decay=0.0, clamp_factor=1e9)
    found = oracle.target_value(loaded, fact, LAYER, free)
    rows = [(list(prompt.ids), prompt.subject_last) for prompt in fact.prompts]
    known, losses = reference.optimise_delta(
        reference_setup(loaded),
        rows,
        (list(fact.kl_prompt.ids), fact.kl_prompt.subject_last),
        fact.target,
        oracle.read(loaded, LAYER, fact.prompts[0]).value,
        reference.Settings(steps=4, weight_decay=0.0, clamp=1e9),
    )
    assert distance(found.delta, known) < TIGHT
    assert found.losses == pytest.approx(losses, rel=TIGHT)
    assert distance(found.z, found.z0 + found.delta) == 0


@pytest.mark.parametrize("variant", SOME)
def test_rules_of_the_target_value(tiny_model, variant):
    """A clamp holds; NAS's value has the length m, or is left where it is longer than 2 m."""
    loaded = tiny_model(variant)
    [fact] = rewrites_of(loaded, REQUESTS[1:2])
    clamped = oracle.target_value(loaded, fact, LAYER, few(clamp_factor=0.1))
    assert float(clamped.delta.norm()) == pytest.approx(0.1 * float(clamped.z0.norm()), rel=TIGHT)

    rule = "length of the mean"
    v0 = oracle.read(loaded, LAYER, fact.prompts[0]).value * loaded.value_multiplier
    plain = oracle.target_value(loaded, fact, LAYER, QUICK)
    length = float((v0 + plain.delta).norm())
    for m in (0.6 * length, 3 * length):
        found = oracle.target_value(loaded, fact, LAYER, few(mean_value_norm=m), rule)
        assert float((found.z - (found.z0 - v0)).norm()) == pytest.approx(m, rel=TIGHT)
    skipped = oracle.target_value(loaded, fact, LAYER, few(mean_value_norm=0.4 * length), rule)
    assert distance(skipped.z, skipped.z0) < TIGHT


@pytest.mark.parametrize("variant", SOME)
def test_value_stops_once_predicted(tiny_model, variant):
    """MPES stops at its count of passes that predict the target, on the way of the plain rule."""
    loaded = tiny_model(variant)
    [fact] = rewrites_of(loaded, REQUESTS[3:])
    # A random model can be brought to say what it nearly says: its second choice.
    with torch.no_grad():
        rows = [oracle.log_probs(loaded, prompt.ids)[-1] for prompt in fact.prompts[1:]]
    second = torch.stack(rows).mean(0).topk(2).indices[1]
    fact = dataclasses.replace(fact, target=(int(second),))
    passes = few(steps=25, stop_loss=0.0, weight_decay=0.0, clamp_factor=10.0)
    plain = oracle.target_value(loaded, fact, LAYER, passes)
    once, thrice = [
        oracle.target_value(
            loaded, fact, LAYER, dataclasses.replace(passes, predicted_passes=n), "until predicted"
        )
        for n in (1, 3)
    ]
    assert 1 < len(once.losses) <= len(thrice.losses) - 2 < len(plain.losses) - 2 == 23
    assert thrice.losses == plain.losses[: len(thrice.losses)]


@pytest.mark.parametrize("variant", SOME)
def test_gradient_editors_agree_where_they_must(tiny_model, variant):
    """FT is FT-M on targets of one token, FT-L FT in a wide bound, LocFT-BF of one batch FT-M."""
    loaded = tiny_model(variant)
    facts = rewrites_of(loaded)
    single = [fact for fact in facts if len(fact.target) == 1]
    assert 0 < len(single) < len(facts)
    W0 = oracle.matrix(loaded, LAYER)

    def tuned(name, some, **other):
        edited = oracle.copied(loaded)
        settings = few(**({"learning_rate": 1e-2, "epochs": 2, "batch_size": 2} | other))
        found = oracle.fine_tune(edited, some, LAYER, settings, EDITORS[name], W0)
        assert distance(oracle.matrix(edited, LAYER), W0 + found.change) < TIGHT
        return found

    teacher_forced = tuned("ft_m", facts)
    assert distance(tuned("ft", single).change, tuned("ft_m", single).change) < TIGHT
    assert distance(tuned("ft", facts).change, teacher_forced.change) > 1e-3
    wide = tuned("ft_l", facts, norm_bound=1e9)
    assert torch.equal(wide.change, tuned("ft", facts).change)
    narrow = tuned("ft_l", facts, norm_bound=5e-3)
    assert float(narrow.change.abs().max()) == pytest.approx(5e-3, rel=1e-6)
    whole = {"batch_size": len(facts), "epochs": 3}
    both = [tuned(name, facts, **whole) for name in ("locft_bf", "ft_m")]
    assert distance(*(each.change for each in both)) < 1e-6  # Adam divides rounding by rounding
    assert both[0].losses == pytest.approx(both[1].losses, rel=TIGHT)
    assert len(tuned("ft_m", facts, tuned_loss=1e9, epochs=9).losses) == 1
    assert not tuned("ft_m", facts, tuned_loss=1e9).change.any()
    order = [0, 1, 2, 3]
    random.Random(0).shuffle(order)
    once = tuned("locft_bf", facts, epochs=1, batch_size=1)
    same = tuned("ft_m", [facts[b] for b in order], epochs=1, batch_size=1)
    assert distance(once.change, same.change) == 0
    assert not loaded.down_projection(LAYER).weight.requires_grad


@pytest.mark.parametrize("name", ["rome", "r_rome", "ft_l", "memit_seq"])
def test_a_sequence_is_its_steps_one_after_the_other(tiny_model, name):
    """Each step starts from what the last one left; the unedited model stays as it is."""
    loaded = tiny_model("gpt2")
    row = {**METHODS, **EDITORS}[name]
    facts, moments = rewrites_of(loaded), moments_of(loaded, [LAYER])
    W0 = oracle.matrix(loaded, LAYER).clone()
    settings = few(norm_bound=0.3, epochs=2)
    whole = oracle.sequence(loaded, [facts[:1], facts[1:2]], row, settings, moments, TEMPLATES)
    first = oracle.sequence(loaded, [facts[:1]], row, settings, moments, TEMPLATES)
    assert torch.equal(whole.weights[0][LAYER], first.weights[0][LAYER])
    assert torch.equal(oracle.matrix(whole.edited, LAYER), whole.weights[1][LAYER])
    alone = oracle.sequence(first.edited, [facts[1:2]], row, settings, moments, TEMPLATES)
    is_memoryless = name in METHODS  # S of memit_seq, and W0 of FT-L, are the sequence's
    assert torch.equal(whole.weights[1][LAYER], alone.weights[0][LAYER]) == is_memoryless
    assert torch.equal(oracle.matrix(loaded, LAYER), W0)
    if name == "ft_l":
        assert float((whole.weights[1][LAYER] - W0).abs().max()) < 0.3 + TIGHT


def test_a_norm_behind_the_mlp_takes_one_layer(tiny_model):
    """The stream's residual is no sum of values there."""
    loaded = tiny_model("gemma2")
    with pytest.raises(ValueError, match="one layer"):
        oracle.joint_edit(loaded, [], JOINT["memit"], few(layers=(0, 1)), {})
