"""On a device, in float32, everything is what the published procedure gives in float64 on a CPU."""

import pytest
import torch

from editcollapse.catalog.methods import METHODS
from editcollapse.covariance.second_moment import MomentSolver, measure_moment
from editcollapse.evaluation.perplexity import encode_texts, perplexities, text_nll
from editcollapse.evaluation.probes import plan_probes
from editcollapse.evaluation.scores import answer_probes, score_probes
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.rome.updates import rank_one_updates
from editcollapse.rome.values import optimise_values
from tests.gpu.expected import CORPUS, LONGEST, VALUES
from tests.gpu.places import all_families, on_device
from tests.support.cases import LAYER, REQUESTS, TEMPLATES, TEXTS, distance

TOLERANCE = 1e-4
"""Of float32 after a whole optimisation; TF32 alone would be 1e-3 off in one product."""
_SAME_RULE = {"r_rome": "c_rome"}


def edited(loaded, moment):
    """Return values of all requests, and every method's updates."""
    rewrites, unusable = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
    assert not unusable
    values = optimise_values(HookedLayer(loaded, LAYER), rewrites, VALUES)
    solver = MomentSolver(moment)
    weight = loaded.weight(LAYER)
    updates = {
        name: rank_one_updates(values, method, solver, weight, VALUES.clamp_factor)[0]
        for name, method in METHODS.items()
    }
    return values, updates


@all_families
def test_keys_values_and_updates(accelerator, model, expected, variant):
    """Keys, values, u, v* after all its steps, losses, and the updates of all methods."""
    whole, known = model(variant), expected(variant)
    with accelerator() as device:
        loaded = on_device(whole, device, "float32")
        assert loaded.device == device
        values, updates = edited(loaded, known.moment)
        found = [
            {
                "k0": values.bare_key[b].cpu(),
                "kbar": values.prefixed_key[b].cpu(),
                "v0": values.bare_value[b].cpu(),
                "vbar": values.prefixed_value[b].cpu(),
                "delta": values.delta[b].cpu(),
            }
            | {name: update.matrix(b).cpu() for name, update in updates.items()}
            | {"u of kbar": updates["rome"].right[b], "u of k0": updates["p_rome"].right[b]}
            for b in range(len(REQUESTS))
        ]
        losses = values.loss.total.tolist()
        steps = values.n_steps.tolist()
    for b, one in enumerate(known.edits):
        right = {
            "k0": one.edit.k0,
            "kbar": one.edit.kbar,
            "v0": one.edit.v0,
            "vbar": one.edit.vbar,
            "delta": one.edit.delta,
        } | {name: one.edit.matrices[_SAME_RULE.get(name, name)] for name in METHODS}
        for key, vector in (("kbar", one.edit.kbar), ("k0", one.edit.k0)):
            solved = torch.linalg.solve(known.moment, vector)
            right[f"u of {key}"] = solved / solved.norm()
        far = {name: distance(found[b][name].double(), right[name]) for name in right}
        assert max(far.values()) < TOLERANCE, (REQUESTS[b].subject, far)
        assert losses[b] == pytest.approx(one.edit.losses[-1], rel=TOLERANCE)
        assert steps[b] == len(one.edit.losses) - 1


@all_families
def test_perplexities_and_answers(accelerator, model, expected, variant):
    """Perplexity and efficacy of edited models, by the updates of the reference itself."""
    whole, known = model(variant), expected(variant)
    names = ("rome", "c_rome", "p_rome", "v_relative")
    with accelerator() as device:
        loaded = on_device(whole, device, "float32")
        hooked = HookedLayer(loaded, LAYER)
        _, updates = edited(loaded, known.moment)
        texts = encode_texts(loaded.encoder, TEXTS)
        plans = [plan_probes(loaded.encoder, TEMPLATES, request, 0) for request in REQUESTS]
        some = [updates[name] for name in names]
        base, *answers = answer_probes(hooked, plans, [None, *some], tokens_per_forward=150)
        found = {
            name: perplexities(text_nll(hooked, texts, updates[name], tokens_per_forward=100))
            for name in names
        }
    for b, one in enumerate(known.edits):
        for name, given in zip(names, answers, strict=True):
            scores = score_probes(plans[b], given[b], base[b])
            assert found[name][b].mean == pytest.approx(one.perplexity[name], rel=TOLERANCE)
            assert scores.efficacy == one.efficacy[name]
            assert scores.target_new_nll == pytest.approx(one.nll[name], rel=TOLERANCE)


@all_families
def test_second_moment(accelerator, model, expected, variant):
    """C of a small corpus, summed in batches."""
    whole, known = model(variant), expected(variant)
    with accelerator() as device:
        loaded = on_device(whole, device, "float32")
        moment = measure_moment(
            loaded, LAYER, CORPUS, n_tokens=1000, max_length=LONGEST, tokens_per_batch=50
        )
        assert moment.matrix.device == torch.device("cpu")
    assert distance(moment.matrix, known.second_moment) < TOLERANCE
