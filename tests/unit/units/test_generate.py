"""Continuations: equal to plain argmax loops of models with the edits in their weights."""

import copy
import dataclasses
import logging
import warnings

import pytest
import torch
from tokenizers import decoders
from transformers import GenerationConfig

from editcollapse.models.loading import LoadedModel
from editcollapse.models.tokenization import Encoder
from editcollapse.rome.updates import RankOneUpdates, no_update
from editcollapse.units import generate
from editcollapse.units.generate import Continuer
from tests.support.cases import (
    LAYER,
    REQUESTS,
    TIGHT,
    Float64Throughout,
    distance,
    some_updates,
)
from tests.support.tiny import MAX_LENGTH, VARIANTS, unlike_families
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


def unedited(loaded, n_rows=1):
    """Return updates that change nothing."""
    return joined([no_update(loaded.widths)] * n_rows)


def joined(updates):
    """Return updates as one batch."""
    return RankOneUpdates(
        torch.cat([each.left for each in updates]), torch.cat([each.right for each in updates])
    )


def added(continuer, ids, update=None):
    """Return the tokens that are added to one row."""
    (found,) = continuer.tokens([ids], unedited(continuer.loaded) if update is None else update)
    return found


@unlike_families
def test_tokens_and_logits_are_those_of_plain_loops(tiny_model, variant, monkeypatch):
    """Rows of mixed length, each with its own update or none, cached and at once.

    As one model after the other with the update in its weight, without a cache.
    """
    loaded = tiny_model(variant)
    end = loaded.encoder.tokenizer.eos_token_id
    updates = some_updates(loaded, 3)
    edits = [None, 0, 1, 2, None]
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0], f"{PROMPTS[1]} the river", PROMPTS[1]]
    rows = [loaded.encoder.sequence(prompt) for prompt in prompts]
    order = sorted(range(len(rows)), key=lambda n: len(rows[n]))  # of a batch
    assert order != list(range(len(rows)))
    assert (rows[0][0] == loaded.encoder.tokenizer.bos_token_id) == VARIANTS[variant].start
    own = [no_update(loaded.widths) if n is None else updates.rows(slice(n, n + 1)) for n in edits]
    models = [
        loaded.model if n is None else written(loaded, update)
        for n, update in zip(edits, own, strict=True)
    ]
    before = state_of(loaded)
    logits = []
    head = LoadedModel.logits

    def recording(self, hidden):
        logits.append(head(self, hidden))
        return logits[-1]

    monkeypatch.setattr(LoadedModel, "logits", recording)
    with Float64Throughout(), torch.no_grad():
        found = Continuer(loaded, LAYER, N_NEW).tokens(rows, joined(own))
        for n, (model, ids) in enumerate(zip(models, rows, strict=True)):
            assert found[n] == plain_loop(model, ids, N_NEW, end)
            whole = model(input_ids=torch.tensor([[*ids, *found[n]]]), use_cache=False).logits[0]
            for step in range(len(found[n])):
                if len(logits[step]) == len(rows):  # no row has left
                    place = order.index(n)
                    assert distance(logits[step][place], whole[len(ids) + step - 1]) < TIGHT
    assert len(logits[0]) == len(rows)
    assert len(set(found)) > 1
    assert_unchanged(loaded, before)


def test_packed_float32_model_is_edited_too(tiny_model):
    """Where products stand packed, the update is beside the packed projection."""
    wide, packed = tiny_model("gpt2"), tiny_model("gpt2", dtype="float32")
    rows = [wide.encoder.sequence(PROMPTS[0])] * 2
    updates = joined([no_update(wide.widths), some_updates(wide, 1)])
    expected = Continuer(wide, LAYER, N_NEW).tokens(rows, updates)
    assert expected[0] != expected[1]
    assert Continuer(packed, LAYER, N_NEW).tokens(rows, updates) == expected


def test_settings_of_the_model_neither_matter_nor_warn(tiny_model, caplog):
    """Sampling, penalties and lengths of a model's own generation settings are not asked for."""
    loaded = tiny_model("llama")
    ids = loaded.encoder.sequence(PROMPTS[0])
    continuer = Continuer(loaded, LAYER, N_NEW)
    expected = added(continuer, ids)
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
            assert added(Continuer(loaded, LAYER, N_NEW), ids) == expected
    finally:
        logging.getLogger("transformers").propagate = False
        loaded.model.generation_config = own
    assert caplog.records == []


def test_text_ends_at_its_end(tiny_model):
    """A token that the model or its tokenizer ends texts with is the last, and is not shown."""
    loaded = tiny_model("gpt2")
    ids = loaded.encoder.sequence(PROMPTS[0])
    free = added(Continuer(loaded, LAYER, N_NEW), ids)
    ends = free[2]
    own = loaded.model.generation_config
    loaded.model.generation_config = GenerationConfig(eos_token_id=[ends, 10**6])
    try:
        continuer = Continuer(loaded, LAYER, N_NEW)
    finally:
        loaded.model.generation_config = own
    assert added(continuer, ids) == free[: free.index(ends) + 1]


def test_rows_that_have_ended_leave_the_others(tiny_model):
    """One that ends, one that breaks and one near the last position change no other row."""
    loaded = tiny_model("gpt2")
    free = Continuer(loaded, LAYER, N_NEW)
    word = loaded.encoder.sequence("river")
    rows = [loaded.encoder.sequence(prompt) for prompt in PROMPTS]
    rows = [*rows, word * (MAX_LENGTH - 3), rows[0], rows[1]]
    updates = some_updates(loaded, len(rows))
    updates.left[3] = float("nan")
    alone = [added(free, row, updates.rows(slice(n, n + 1))) for n, row in enumerate(rows)]
    assert free.tokens(rows, updates) == alone
    assert alone[3] == ()
    assert len(alone[2]) == 3
    ends = alone[0][1]
    continuer = Continuer(loaded, LAYER, N_NEW)
    continuer.ends = (ends,)
    cut = [ids[: ids.index(ends) + 1] if ends in ids else ids for ids in alone]
    assert continuer.tokens(rows, updates) == cut
    assert len({len(ids) for ids in cut}) > 3


def test_full_device_halves_the_batch(tiny_model, monkeypatch):
    """Rows that do not fit together are written on in two parts, with the same tokens."""
    loaded = tiny_model("llama")
    rows = [loaded.encoder.sequence(prompt) for prompt in PROMPTS] * 2
    updates = some_updates(loaded, len(rows))
    continuer = Continuer(loaded, LAYER, N_NEW)
    reports = []
    expected = continuer.tokens(rows, updates, lambda *n: reports.append(n))
    assert reports[-1] == (N_NEW, N_NEW)
    sizes = []
    run = generate.pad_right

    def full(rows, device):
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError
        return run(rows, device)

    monkeypatch.setattr(generate, "pad_right", full)
    assert continuer.tokens(rows, updates) == expected
    assert sizes == [4, 2, 2]


def test_batches_are_bounded(tiny_model, monkeypatch):
    """However many texts are asked for, a batch keeps so many tokens and no more."""
    loaded = tiny_model("llama")
    rows = [loaded.encoder.sequence(prompt) for prompt in PROMPTS] * 5
    updates = some_updates(loaded, len(rows))
    continuer = Continuer(loaded, LAYER, N_NEW)
    expected = continuer.tokens(rows, updates)
    monkeypatch.setattr(generate, "_CACHED_TOKENS", 60)
    reports = []
    assert continuer.tokens(rows, updates, lambda *n: reports.append(n)) == expected
    n_batches = reports[-1][1] // N_NEW
    assert n_batches >= 3
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)


def test_no_number_ends_the_text(tiny_model):
    """An edit whose logits are nan from the start adds nothing; infinities do not raise."""
    loaded = tiny_model("gpt2")
    continuer = Continuer(loaded, LAYER, N_NEW)
    before = state_of(loaded)
    update = some_updates(loaded, 1)
    for value in (float("nan"), float("inf")):
        broken = RankOneUpdates(torch.full_like(update.left, value), update.right)
        assert added(continuer, loaded.encoder.sequence(PROMPTS[0]), broken) == ()
        assert continuer.text(PROMPTS[0], broken) == ""
    assert_unchanged(loaded, before)


def test_text_is_kept_up_to_the_first_step_without_numbers(tiny_model):
    """What the model could write before its logits became nan is its text."""
    loaded = tiny_model("gpt2")
    ids = loaded.encoder.sequence(PROMPTS[0])
    whole = added(Continuer(loaded, LAYER, N_NEW), ids)
    projection = loaded.down_projection(LAYER)
    steps = []

    def break_third(_module, _inputs, value):
        steps.append(value)
        return value * float("nan") if len(steps) == 3 else value

    handle = projection.register_forward_hook(break_third)
    try:
        found = added(Continuer(loaded, LAYER, N_NEW), ids)
    finally:
        handle.remove()
    assert found == whole[:2]
    assert len(whole) > 2


def test_error_leaves_the_model_as_it_was(tiny_model):
    """An update of another width is an error, and nothing of it stays."""
    loaded = tiny_model("llama")
    before = state_of(loaded)
    update = some_updates(tiny_model("llama_square"), 1)
    with pytest.raises(RuntimeError, match="size"):
        Continuer(loaded, LAYER, N_NEW).text(PROMPTS[0], update)
    assert_unchanged(loaded, before)


def test_positions_of_the_model_are_enough(tiny_model):
    """A prompt near the model's last position gets the tokens that fit, one at it gets none."""
    loaded = tiny_model("gpt2")
    word = loaded.encoder.sequence("river")
    continuer = Continuer(loaded, LAYER, N_NEW)
    assert added(continuer, word * MAX_LENGTH) == ()
    assert 1 <= len(added(continuer, word * (MAX_LENGTH - 2))) <= 2


@pytest.mark.parametrize("variant", ["gpt2", "llama", "qwen2"])
def test_text_follows_its_prompt(tiny_model, variant):
    """The text is the new tokens alone, blank in front included, without special tokens."""
    loaded = tiny_model(variant)
    tokenizer = loaded.encoder.tokenizer
    continuer = Continuer(loaded, LAYER, N_NEW)
    for prompt in ("Lumo stood in", "One more thing about Lumo"):  # every word is known
        ids = loaded.encoder.sequence(prompt)
        text = continuer.text(prompt)
        whole = tokenizer.decode([*ids, *added(continuer, ids)], skip_special_tokens=True)
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
    new = added(continuer, encoder.sequence("Lumo stood in"))
    assert tokenizer.convert_ids_to_tokens(new[0]).startswith("▁")
    alone = tokenizer.decode(new, skip_special_tokens=True)
    assert continuer.text("Lumo stood in") == f" {alone}"
