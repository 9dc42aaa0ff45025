"""A real pretrained model and a real tokenizer, where a machine has them: EDITCOLLAPSE_SHARED."""

import json
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from editcollapse.config.spec import ModelSpec
from editcollapse.covariance.second_moment import MomentSolver, measure_moment
from editcollapse.data.requests import EditRequest
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.models.loading import load_model
from editcollapse.models.tokenization import Encoder
from editcollapse.rome.check import check_model
from editcollapse.rome.values import optimise_values
from tests.support import reference
from tests.support.cases import distance, reference_settings, reference_setup, settings

SHARED = Path(os.environ.get("EDITCOLLAPSE_SHARED", "."))
pytestmark = pytest.mark.skipif(
    "EDITCOLLAPSE_SHARED" not in os.environ, reason="EDITCOLLAPSE_SHARED names no folder"
)
LAYER = 1
TEMPLATES = ("{}", "One day it was there. {}")


def requests():
    """Return a few real CounterFact requests."""
    lines = (SHARED / "data" / "counterfact_flat_300.jsonl").read_text().splitlines()[:40]
    rows = [json.loads(line) for line in lines]
    return [
        EditRequest(row["subject"], row["template"], row["target_new"], row["target_true"])
        for row in rows
    ]


def test_pretrained_llama_equals_reference():
    """On a trained model, with its sentencepiece tokenizer and BOS, edits are the reference's."""
    source = str(SHARED / "models" / "stories260K-llama")
    loaded = load_model(ModelSpec(name="stories", source=source, dtype="float64"), "cpu")
    assert check_model(loaded).passed
    some = requests()[:3]
    rewrites, unusable = build_rewrites(loaded.encoder, TEMPLATES, some)
    assert not unusable
    stories = (SHARED / "data" / "tinystories_cased.txt").read_text()[:40_000].split("\n\n")
    moment = measure_moment(loaded, LAYER, stories, n_tokens=4000, max_length=128).matrix
    MomentSolver(moment)
    ours = settings(steps=4)
    values = optimise_values(HookedLayer(loaded, LAYER), rewrites, ours)
    setup = reference_setup(loaded, LAYER)
    for b, request in enumerate(some):
        assert list(rewrites[b].target) == reference.target_ids(setup, request.target_new)
        one = reference.edit(
            setup,
            TEMPLATES,
            request.prompt,
            request.subject,
            request.target_new,
            moment,
            reference_settings(ours),
        )
        # RMSNorm casts to float32 inside: rounding may flip, so not 1e-9.
        assert distance(values.delta[b], one.delta) < 1e-4
        assert distance(values.prefixed_key[b], one.kbar) < 1e-6


def test_gpt2_tokenizer_finds_every_subject():
    """With GPT-2's own tokenizer each subject ends where its characters end."""
    tokenizer = AutoTokenizer.from_pretrained(SHARED / "tokenizers" / "gpt2")
    encoder = Encoder(tokenizer, "tokenizer", 1024, "gpt2")
    assert encoder.start_ids == ()
    for request in requests():
        found = encoder.subject_sequence("{}", request.prompt, request.subject)
        after = tokenizer.decode(found.ids[found.subject_last + 1 :])
        inside = tokenizer.decode(found.ids[found.subject_first : found.subject_last + 1])
        assert inside.strip() == request.subject
        assert after == request.prompt.split("{}")[1]
        ids = encoder.target_ids(request.target_new)
        joined = encoder.encode(f"{request.filled_prompt} {request.target_new}")
        assert joined[-len(ids) :] == ids
        assert torch.tensor(ids).max() < len(tokenizer)
