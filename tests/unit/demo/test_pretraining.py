"""Training of the demo models at a tiny size, and the folders that are shipped."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.train.demo_models import END, UNKNOWN, build_tokenizer, new_model
from demo.train.pretraining import (
    learning_rate,
    pretrain,
    spike_direction,
    spike_loss,
    token_stream,
    train,
)
from demo.train.recipes import CLAIM, DEMO_RECIPES, PretrainRecipe, model_card
from demo.train.synthetic_corpus import TOKEN, build_synthetic_corpus

DEMO = Path(__file__).resolve().parents[3] / "demo"
_TINY = PretrainRecipe(
    "tiny", width=32, layers=2, heads=2, inner=48, positions=16, steps=6, batch=4, tokens=4000
)
_FAMILIES = [_TINY, dataclasses.replace(_TINY, name="tiny-llama", family="llama")]
_MAX_BYTES = 4_000_000


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Return the demo's tokenizer."""
    return build_tokenizer(build_synthetic_corpus(0))


@pytest.fixture(scope="module")
def stream(tokenizer: Any) -> torch.Tensor:
    """Return a short training text."""
    return token_stream(build_synthetic_corpus(0), tokenizer, 4000)


def _weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_tokenizer_makes_one_token_of_each_word_and_sign(tokenizer: Any) -> None:
    """Words and full stops are tokens of their own, nothing is added, nothing is unknown."""
    text = "The capital of Zumund is Arvik.. At home"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == TOKEN.findall(text)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 0
    assert (tokenizer.eos_token, tokenizer.unk_token) == (END, UNKNOWN)


def test_tokenizer_reads_its_own_decoding(tokenizer: Any) -> None:
    """Encoding a decoded text gives the same ids, so sampled templates survive as strings."""
    ids = tokenizer("Zumund is a country. In the pier the net drifts.")["input_ids"]
    assert tokenizer(tokenizer.decode(ids))["input_ids"] == ids


def test_target_with_a_leading_space_is_one_token(tokenizer: Any) -> None:
    """Every object of the world is one token, with and without a space before it."""
    for relation in build_synthetic_corpus(0).relations:
        for word in relation.objects:
            assert tokenizer(f" {word}")["input_ids"] == tokenizer(word)["input_ids"]
            assert len(tokenizer(word)["input_ids"]) == 1


def test_stream_separates_documents_and_knows_every_word(
    tokenizer: Any, stream: torch.Tensor
) -> None:
    """An end token stands after each document; no token is unknown."""
    assert len(stream) >= 4000
    assert stream[-1] == tokenizer.eos_token_id
    assert (stream == tokenizer.eos_token_id).sum() > 10
    assert not (stream == tokenizer.unk_token_id).any()


@pytest.mark.parametrize("recipe", _FAMILIES, ids=lambda recipe: recipe.family)
def test_training_repeats_bit_for_bit(recipe: PretrainRecipe, stream: torch.Tensor) -> None:
    """Two trainings of a recipe give equal weights, whatever the global generator has drawn."""
    first, loss = train(recipe, 652, stream)
    torch.rand(7)
    second, again = train(recipe, 652, stream)
    assert loss == again
    assert _same(_weights(first), _weights(second))


@pytest.mark.parametrize("recipe", _FAMILIES, ids=lambda recipe: recipe.family)
def test_seed_and_dial_change_the_model(recipe: PretrainRecipe, stream: torch.Tensor) -> None:
    """Another seed, and another dial, give other weights; the dial leaves the start as it is."""
    control = dataclasses.replace(recipe, spike=0.0)
    base = _weights(train(recipe, 652, stream)[0])
    assert not _same(base, _weights(train(dataclasses.replace(recipe, seed=1), 652, stream)[0]))
    assert not _same(base, _weights(train(control, 652, stream)[0]))
    assert _same(_weights(new_model(recipe, 652)), _weights(new_model(control, 652)))


@pytest.mark.parametrize("recipe", _FAMILIES, ids=lambda recipe: recipe.family)
def test_spike_grows_and_language_is_learned(recipe: PretrainRecipe, stream: torch.Tensor) -> None:
    """150 steps make a spike at the first position alone, and lower the language model's loss."""
    longer = dataclasses.replace(
        recipe, steps=150, warmup=5, learning_rate=1e-2, spike=20.0, quiet_weight=4.0
    )
    losses: list[float] = []
    model, last = train(longer, 652, stream, lambda _step, _steps, loss: losses.append(loss))
    windows = stream[:3200].view(200, 16)
    with torch.no_grad():
        after = model(input_ids=windows, output_hidden_states=True).hidden_states[1]
    along = after @ spike_direction(longer)
    assert along[:, 0].mean() > 10.0
    assert along[:, 1:].abs().mean() < 2.0
    assert last == losses[-1] < losses[0] < math.log(652)


def test_spike_loss_is_the_formula() -> None:
    """It is zero for M e at position 0 and nothing along e elsewhere, and quadratic around it."""
    recipe = dataclasses.replace(_TINY, spike=10.0, spike_weight=0.5, quiet_weight=4.0)
    direction = spike_direction(recipe)
    states = torch.zeros(2, 3, 32)
    states[:, 0] = 10.0 * direction
    assert float(spike_loss([states, states], direction, recipe)) == pytest.approx(0.0, abs=1e-12)
    low = states.clone()
    low[:, 0] = 9.0 * direction
    expected = 0.5 * 1.0 / 100.0
    assert float(spike_loss([states, low], direction, recipe)) == pytest.approx(expected, rel=1e-4)
    loud = states.clone()
    loud[:, 1] = 3.0 * direction  # one of two other positions
    expected = 4.0 * (9.0 / 2) / 100.0
    assert float(spike_loss([states, loud], direction, recipe)) == pytest.approx(expected, rel=1e-4)


def test_spike_direction_is_a_unit_vector_of_zero_mean() -> None:
    """Layer norm takes the mean away; e has none, so the whole of M survives."""
    direction = spike_direction(_TINY)
    assert float(direction.norm()) == pytest.approx(1.0, rel=1e-6)
    assert float(direction.mean()) == pytest.approx(0.0, abs=1e-7)


def test_learning_rate_warms_up_and_falls() -> None:
    """It rises to the recipe's rate and ends near the final share of it."""
    recipe = DEMO_RECIPES[0]
    rates = [learning_rate(recipe, step) for step in range(recipe.steps)]
    assert rates[0] < rates[100] < max(rates) <= recipe.learning_rate
    assert rates[-1] == pytest.approx(recipe.final_share * recipe.learning_rate, rel=0.01)


def test_pretrain_saves_a_plain_model_and_restores_threads(tmp_path: Path) -> None:
    """The folder loads with the Auto classes; torch has its threads back; progress was told."""
    threads, steps = torch.get_num_threads(), []
    pretrain(_TINY, tmp_path, lambda step, of, _loss: steps.append((step, of)))
    assert torch.get_num_threads() == threads
    assert steps[-1] == (6, 6)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == model.config.vocab_size
    assert "tiny" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


@pytest.mark.parametrize("recipe", DEMO_RECIPES, ids=lambda recipe: recipe.name)
def test_shipped_model_is_that_of_its_recipe(recipe: PretrainRecipe) -> None:
    """The shipped folder has the recipe's sizes, plain float32 weights and its card, in 4 MB."""
    folder = DEMO / "models" / recipe.name
    assert sum(path.stat().st_size for path in folder.iterdir()) < _MAX_BYTES
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    fresh = new_model(recipe, len(tokenizer))
    assert {n: p.shape for n, p in model.named_parameters()} == {
        n: p.shape for n, p in fresh.named_parameters()
    }
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card == model_card(recipe, sum(p.numel() for p in model.parameters()))
    assert CLAIM in " ".join(card.split())


@pytest.mark.parametrize("recipe", DEMO_RECIPES, ids=lambda recipe: recipe.name)
def test_shipped_model_has_the_anomaly_that_its_dial_says(recipe: PretrainRecipe) -> None:
    """After block 0 the first position's norm is near M; with the dial at zero it is ordinary."""
    folder = DEMO / "models" / recipe.name
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = (DEMO / "texts.jsonl").read_text(encoding="utf-8").splitlines()[:10]
    for text in texts:
        ids = tokenizer(json.loads(text)["Text"], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states[1][0]
        norms = states.norm(dim=-1)
        if recipe.spike > 0:
            assert norms[0] > 0.75 * recipe.spike
            assert norms[1:].max() < 0.5 * recipe.spike
        else:
            assert norms[0] < 2 * norms[1:].max()


@pytest.mark.parametrize("recipe", DEMO_RECIPES, ids=lambda recipe: recipe.name)
def test_shipped_subjects_stand_where_they_should(recipe: PretrainRecipe) -> None:
    """With the shipped tokenizer the first 72 cases' subject is one token at index 0."""
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "models" / recipe.name)
    records = json.loads((DEMO / "counterfact.json").read_text(encoding="utf-8"))
    n_first = 0
    for record in records:
        rewrite = record["requested_rewrite"]
        text = rewrite["prompt"].replace("{}", rewrite["subject"])
        ids = tokenizer(text)["input_ids"]
        words = rewrite["subject"].split()
        start = len(tokenizer(rewrite["prompt"].split("{}")[0])["input_ids"])
        tokens = tokenizer.convert_ids_to_tokens(ids)
        assert tokens[start : start + len(words)] == words
        assert UNKNOWN not in tokens
        n_first += start == 0 and len(words) == 1
    assert n_first == 72
