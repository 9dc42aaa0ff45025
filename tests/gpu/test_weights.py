"""Edits on a device leave every bit of every weight as it was."""

import torch

from editcollapse.catalog.methods import METHODS
from editcollapse.covariance.second_moment import MomentSolver, measure_moment
from editcollapse.evaluation.perplexity import encode_texts, text_nll
from editcollapse.evaluation.probes import plan_probes
from editcollapse.evaluation.scores import answer_probes
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.rome.updates import rank_one_updates
from editcollapse.rome.values import optimise_values
from tests.gpu.expected import CORPUS, LONGEST, VALUES
from tests.gpu.places import all_families_two_emulated, on_device
from tests.support.cases import LAYER, REQUESTS, TEMPLATES, TEXTS


def bits(loaded):
    """Return the bytes of every weight and buffer, by name."""
    named = [*loaded.model.named_parameters(), *loaded.model.named_buffers()]
    return {
        name: tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).clone()
        for name, tensor in named
    }


@all_families_two_emulated
def test_every_weight_keeps_its_bits(accelerator, model, variant):
    """After C, v*, updates by every method, perplexities and answers: not one bit differs."""
    whole = model(variant)
    with accelerator() as device:
        loaded = on_device(whole, device, "bfloat16")
        before = bits(loaded)
        hooked = HookedLayer(loaded, LAYER)
        moment = measure_moment(loaded, LAYER, CORPUS, n_tokens=1000, max_length=LONGEST)
        solver = MomentSolver(moment.matrix, 0.01)
        rewrites, _ = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
        values = optimise_values(hooked, rewrites, VALUES)
        weight = loaded.weight(LAYER)
        updates = [
            rank_one_updates(values, method, solver, weight, VALUES.clamp_factor)[0]
            for method in METHODS.values()
        ]
        texts = encode_texts(loaded.encoder, TEXTS)
        nll = [text_nll(hooked, texts, each) for each in updates]
        plans = [plan_probes(loaded.encoder, TEMPLATES, request, 0) for request in REQUESTS]
        answer_probes(hooked, plans, [None, *updates])
        after = bits(loaded)
    assert all(each.shape == (len(REQUESTS), len(TEXTS)) for each in nll)
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == []
