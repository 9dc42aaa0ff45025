"""bfloat16 weights on a device: finite updates, and the verdicts of the float64 model."""

import json

import pytest
import torch

from benchmarks.inputs import DEMO
from editcollapse.catalog.methods import METHODS
from editcollapse.catalog.presets import ValueSettings
from editcollapse.covariance.second_moment import MomentSolver, measure_moment
from editcollapse.data.requests import EditRequest
from editcollapse.evaluation.perplexity import encode_texts, perplexities, text_nll
from editcollapse.forecast.bounds import KeyFacts, LayerGeometry, update_bounds
from editcollapse.forecast.verdicts import STUDY_FILE, Thresholds, verdict_of
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import read_keys
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.rome.updates import no_update, rank_one_updates
from editcollapse.rome.values import optimise_values
from tests.gpu import places
from tests.gpu.expected import VALUES
from tests.gpu.places import all_families_two_emulated, everywhere, on_device
from tests.support.cases import LAYER, REQUESTS, TEMPLATES, some_moment

_DAMAGED_AT = 1.2
"""Times the unedited model's perplexity: with four templates ROME's first-token edits come to 1.3
to 12 times, all others to 1.13 at most, so that no verdict hangs on a rounding."""
_THRESHOLDS = Thresholds(1.8, 14.0, STUDY_FILE, 0, 0, is_default=False)
"""A fifth or more from every bound of these edits, likewise."""
_CLAMP = {"gpt2-induced": 4.0, "llama-induced": 16.0}
"""As in studies/demo.toml."""
_TEMPLATES = ("{}", "It was said that. {}", "A long time ago there. {}", "They say. {}")
_N_EACH = 3
"""Requests whose subject is the prompt's first token, and others."""
_TOKENS = 4096
_METHODS = ("rome", "c_rome")


@all_families_two_emulated
def test_updates_are_finite(accelerator, model, variant):
    """Every method's updates of every family: float64, finite, and not zero."""
    whole = model(variant)
    with accelerator() as device:
        loaded = on_device(whole, device, "bfloat16")
        rewrites, _ = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
        values = optimise_values(HookedLayer(loaded, LAYER), rewrites, VALUES)
        assert values.delta.dtype == torch.float32
        solver, weight = MomentSolver(some_moment(loaded.widths.d_key)), loaded.weight(LAYER)
        for method in METHODS.values():
            made, facts = rank_one_updates(values, method, solver, weight, VALUES.clamp_factor)
            for tensor in (made.left, made.right, facts.denominator, facts.relative_update_norm):
                assert tensor.dtype == torch.float64
                assert bool(torch.isfinite(tensor).all())
            assert bool((facts.update_norm > 0).all())


def demo_requests(encoder):
    """Return requests with the subject first and alone, then others."""
    first, others = [], []
    for record in json.loads((DEMO / "counterfact.json").read_text(encoding="utf-8")):
        asked = record["requested_rewrite"]  # read plainly: a GPU machine may have no pydantic
        request = EditRequest(asked["subject"], asked["prompt"], asked["target_new"]["str"], None)
        rewrite = build_rewrites(encoder, ("{}",), [request])[0][0]
        (first if rewrite.audit.is_first_token else others).append(request)
    return first[:_N_EACH] + others[:_N_EACH]


def demo_texts():
    """Return the demo's texts."""
    lines = (DEMO / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["Text"] for line in lines]


def verdicts(loaded, name):
    """Return the forecast's verdict and whether the edit did damage, by method and edit."""
    corpus = (DEMO / "corpus.txt").read_text(encoding="utf-8").split("\n\n")
    texts = encode_texts(loaded.encoder, demo_texts())
    settings = ValueSettings(steps=20, weight_decay=0.5, clamp_factor=_CLAMP[name])
    rewrites, _ = build_rewrites(loaded.encoder, _TEMPLATES, demo_requests(loaded.encoder))
    hooked = HookedLayer(loaded, LAYER)
    moment = measure_moment(loaded, LAYER, corpus, n_tokens=_TOKENS, max_length=60)
    solver = MomentSolver(moment.matrix)
    geometry = LayerGeometry.of(hooked, solver)
    facts = KeyFacts.of(hooked, read_keys(hooked, rewrites, _TOKENS))
    values = optimise_values(hooked, rewrites, settings)
    base = perplexities(text_nll(hooked, texts, no_update(loaded.widths)))[0].mean
    found = {}
    for method in _METHODS:
        bounds = update_bounds(facts, METHODS[method], geometry, settings.clamp_factor)
        made, _ = rank_one_updates(
            values, METHODS[method], solver, loaded.weight(LAYER), settings.clamp_factor
        )
        after = [each.mean for each in perplexities(text_nll(hooked, texts, made))]
        for b, bound in enumerate(bounds.text_change_bound.tolist()):
            found[method, b] = (
                verdict_of(bound, None, _THRESHOLDS),
                not after[b] <= _DAMAGED_AT * base,
            )
    return found


@everywhere(places.DEMO, emulated_marks=pytest.mark.slow)
def test_verdicts_are_those_of_float64(accelerator, model, variant):
    """Forecast and measured damage of six edits by two methods; some do damage, some do none."""
    whole = model(variant)
    known = verdicts(whole, variant)
    with accelerator() as device:
        found = verdicts(on_device(whole, device, "bfloat16"), variant)
    assert found == known
    assert {damaged for _, damaged in known.values()} == {True, False}
    assert len({verdict for verdict, _ in known.values()}) > 1
