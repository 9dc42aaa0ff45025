"""Continuations: equal to a plain argmax loop of a model with the edit in its weight."""

import copy
import dataclasses
import logging
import warnings

import pytest
import torch
from tokenizers import decoders
from transformers import GenerationConfig

from editcollapse.models.tokenization import Encoder
from editcollapse.rome.updates import RankOneUpdates
from editcollapse.units.generate import Continuer
from tests.support.cases import LAYER, REQUESTS, Float64Throughout, some_updates
from tests.support.tiny import MAX_LENGTH, VARIANTS
from tests.support.toy_tokenizers import metaspace_tokenizer

N_NEW = 12
PROMPTS = [request.filled_prompt for request in REQUESTS[:2]]


def plain_loop(model, ids, n_new, end):
    """Return the likeliest token after the other, each from a forward of the whole text."""
    added = []
    while len(added) < n_new and end not in added:
        logits = model(input_ids=torch.tensor([[*ids, *added]]), use_cache=False).logits
        added.append(int(logits[0, -1].argmax()))
    return tuple(added)


def written(loaded, update):
    """Return a copy of the model with one update added to its weight."""
    model = copy.deepcopy(loaded.model)
    row = loaded.architecture
    projection = model.get_submodule(f"{row.decoder}.{row.blocks}.{LAYER}.{row.down_projection}")
    matrix = update.matrix(0)
    with torch.no_grad():
        projection.weight += matrix.T if row.transposed else matrix
    return model


def state_of(loaded):
    """Return what must be the same afterwards: weights, modules, hooks, generation settings."""
    modules = dict(loaded.model.named_modules())
    hooks = [len(module._forward_hooks) for module in modules.values()]
    weights = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    return modules, hooks, weights, loaded.model.generation_config.to_dict()


def assert_unchanged(loaded, before):
    """Check that a model is what it was."""
    now = state_of(loaded)
    assert now[0] == before[0]  # modules are equal to themselves alone
    assert now[1] == before[1]
    assert all(torch.equal(now[2][name], weight) for name, weight in before[2].items())
    assert now[3] == before[3]


@pytest.mark.parametrize("variant", VARIANTS)
def test_tokens_are_those_of_a_plain_loop(tiny_model, variant):
    """Cached, and with the update beside the weight, the tokens are those of the written model."""
    loaded = tiny_model(variant)
    end = loaded.encoder.tokenizer.eos_token_id
    continuer = Continuer(loaded, LAYER, N_NEW)
    (update,) = [some_updates(loaded, 2).rows(slice(1, 2))]
    edited = written(loaded, update)
    before = state_of(loaded)
    changed = []
    with Float64Throughout(), torch.no_grad():
        for prompt in PROMPTS:
            ids = loaded.encoder.sequence(prompt)
            assert (ids[0] == loaded.encoder.tokenizer.bos_token_id) == VARIANTS[variant].start
            unedited = continuer.tokens(ids)
            assert unedited == plain_loop(loaded.model, ids, N_NEW, end)
            found = continuer.tokens(ids, update)
            assert found == plain_loop(edited, ids, N_NEW, end)
            changed.append(found != unedited)
    assert any(changed)
    assert_unchanged(loaded, before)


def test_packed_float32_model_is_edited_too(tiny_model):
    """Where products stand packed, the update is beside the packed projection."""
    wide, packed = tiny_model("gpt2"), tiny_model("gpt2", dtype="float32")
    update = some_updates(wide, 1)
    ids = wide.encoder.sequence(PROMPTS[0])
    for edit in (None, update):
        expected = Continuer(wide, LAYER, N_NEW).tokens(ids, edit)
        assert Continuer(packed, LAYER, N_NEW).tokens(ids, edit) == expected


def test_settings_of_the_model_neither_matter_nor_warn(tiny_model, caplog):
    """Sampling, penalties and lengths of a model's own generation settings are not asked for."""
    loaded = tiny_model("llama")
    ids = loaded.encoder.sequence(PROMPTS[0])
    continuer = Continuer(loaded, LAYER, N_NEW)
    expected = continuer.tokens(ids)
    own = loaded.model.generation_config
    loaded.model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.6,
        top_p=0.9,
        top_k=5,
        repetition_penalty=9.0,
        suppress_tokens=[expected[0]],
        max_length=3,
        num_beams=2,
        eos_token_id=own.eos_token_id,
    )
    try:
        with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
            warnings.simplefilter("error")
            logging.getLogger("transformers").propagate = True
            assert Continuer(loaded, LAYER, N_NEW).tokens(ids) == expected
    finally:
        logging.getLogger("transformers").propagate = False
        loaded.model.generation_config = own
    assert caplog.records == []


def test_text_ends_at_its_end(tiny_model):
    """A token that the model or its tokenizer ends texts with is the last, and is not shown."""
    loaded = tiny_model("gpt2")
    ids = loaded.encoder.sequence(PROMPTS[0])
    free = Continuer(loaded, LAYER, N_NEW).tokens(ids)
    ends = free[2]
    own = loaded.model.generation_config
    loaded.model.generation_config = GenerationConfig(eos_token_id=[ends, 10**6])
    try:
        continuer = Continuer(loaded, LAYER, N_NEW)
    finally:
        loaded.model.generation_config = own
    assert continuer.tokens(ids) == free[: free.index(ends) + 1]


def test_no_number_ends_the_text(tiny_model):
    """An edit whose logits are nan from the start adds nothing; infinities do not raise."""
    loaded = tiny_model("gpt2")
    continuer = Continuer(loaded, LAYER, N_NEW)
    before = state_of(loaded)
    update = some_updates(loaded, 1)
    for value in (float("nan"), float("inf")):
        broken = RankOneUpdates(torch.full_like(update.left, value), update.right)
        assert continuer.tokens(loaded.encoder.sequence(PROMPTS[0]), broken) == ()
        assert continuer.text(PROMPTS[0], broken) == ""
    assert_unchanged(loaded, before)


def test_text_is_kept_up_to_the_first_step_without_numbers(tiny_model):
    """What the model could write before its logits became nan is its text."""
    loaded = tiny_model("gpt2")
    ids = loaded.encoder.sequence(PROMPTS[0])
    whole = Continuer(loaded, LAYER, N_NEW).tokens(ids)
    projection = loaded.down_projection(LAYER)
    steps = []

    def break_third(_module, _inputs, value):
        steps.append(value)
        return value * float("nan") if len(steps) == 3 else value

    handle = projection.register_forward_hook(break_third)
    try:
        found = Continuer(loaded, LAYER, N_NEW).tokens(ids)
    finally:
        handle.remove()
    assert found == whole[:2]
    assert len(whole) > 2


def test_error_leaves_the_model_as_it_was(tiny_model):
    """An update of another width is an error, and nothing of it stays."""
    loaded = tiny_model("llama")
    before = state_of(loaded)
    update = some_updates(tiny_model("llama_square"), 1)
    with pytest.raises(RuntimeError, match="size mismatch"):
        Continuer(loaded, LAYER, N_NEW).text(PROMPTS[0], update)
    assert_unchanged(loaded, before)


def test_positions_of_the_model_are_enough(tiny_model):
    """A prompt near the model's last position gets the tokens that fit, one at it gets none."""
    loaded = tiny_model("gpt2")
    word = loaded.encoder.sequence("river")
    continuer = Continuer(loaded, LAYER, N_NEW)
    assert continuer.tokens(word * MAX_LENGTH) == ()
    assert 1 <= len(continuer.tokens(word * (MAX_LENGTH - 2))) <= 2


@pytest.mark.parametrize("variant", ["gpt2", "llama", "qwen2"])
def test_text_follows_its_prompt(tiny_model, variant):
    """The text is the new tokens alone, blank in front included, without special tokens."""
    loaded = tiny_model(variant)
    tokenizer = loaded.encoder.tokenizer
    continuer = Continuer(loaded, LAYER, N_NEW)
    for prompt in ("Lumo stood in", "One more thing about Lumo"):  # every word is known
        ids = loaded.encoder.sequence(prompt)
        text = continuer.text(prompt)
        whole = tokenizer.decode([*ids, *continuer.tokens(ids)], skip_special_tokens=True)
        assert whole == prompt + text
        assert not any(special in text for special in tokenizer.all_special_tokens)


def test_blank_in_front_of_a_text_is_kept(tiny_model):
    """Llama-2's decoder strips it from what is decoded alone; behind the prompt it stays."""
    tokenizer = metaspace_tokenizer(start=True)
    steps = [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.backend_tokenizer.decoder = decoders.Sequence(steps)
    encoder = Encoder(tokenizer, "tokenizer", MAX_LENGTH, "toy")
    loaded = dataclasses.replace(tiny_model("llama"), encoder=encoder)
    continuer = Continuer(loaded, LAYER, N_NEW)
    added = continuer.tokens(encoder.sequence("Lumo stood in"))
    assert tokenizer.convert_ids_to_tokens(added[0]).startswith("▁")
    alone = tokenizer.decode(added, skip_special_tokens=True)
    assert continuer.text("Lumo stood in") == f" {alone}"
