"""What a model writes for C: the same as row by row with whole forwards, whoever stands beside."""

import pytest
import torch

from editcollapse.config.spec import CovarianceSpec
from editcollapse.covariance.samples import (
    _generator,
    budgeted_samples,
    draw,
    own_texts,
    start_of_text,
    write_rows,
)
from editcollapse.errors import ModelError
from tests.support.cases import Float64Throughout

LENGTH = 20
SEED = 3
FAMILIES = ("gpt2", "gptj", "gpt_neo", "gpt_neox_parallel", "llama", "qwen2", "gemma2")
FAMILIES += ("gemma3_text", "phi3")


def plainly_written(loaded, row, length=LENGTH):
    """Return a row's documents: one whole forward a token, and the plain cumulated softmax."""
    draws = torch.rand(2 * length, dtype=torch.float64, generator=_generator(SEED, row))
    start, ends = start_of_text(loaded), {*loaded.end_ids, start_of_text(loaded)}
    documents, left = [[]], length
    for at in draws:
        ids = torch.tensor([[start, *documents[-1]]])
        with torch.no_grad():
            logits = loaded.model(ids, use_cache=False).logits[0, -1]
        token = int((logits.double().softmax(-1).cumsum(-1) <= at).sum())
        if token in ends:
            documents.append([])
        elif left:
            documents[-1].append(token)
            left -= 1
        if not left:
            break
    return tuple(tuple(each) for each in documents if each)


@pytest.mark.parametrize("variant", FAMILIES)
def test_rows_are_those_of_whole_forwards(tiny_model, variant):
    """Cached keys and values, a text begun anew behind a mask, and others beside it: no change."""
    loaded = tiny_model(variant)
    with Float64Throughout():
        found = write_rows(loaded, range(8), LENGTH, SEED)
        assert found == [plainly_written(loaded, row) for row in range(8)]
    assert all(sum(map(len, documents)) == LENGTH for documents in found)
    if variant != "qwen2":  # with 300 tokens to choose from none ends
        assert any(len(documents) > 1 for documents in found)


def test_a_row_depends_on_itself_alone(tiny_model):
    loaded = tiny_model("llama")
    with Float64Throughout():
        together = write_rows(loaded, range(6), LENGTH, SEED)
        assert write_rows(loaded, [4], LENGTH, SEED) == together[4:5]
        assert write_rows(loaded, range(6), LENGTH, SEED + 1) != together
    assert len(set(together)) == 6


def test_no_document_is_longer_than_the_model_takes(tiny_model):
    """The tiny GPT-2 has 80 positions: a row of 100 tokens is more than one document."""
    loaded = tiny_model("gpt2")
    found = write_rows(loaded, range(2), 100, SEED)
    assert all(len(text) <= 80 for documents in found for text in documents)
    assert all(sum(map(len, documents)) == 100 for documents in found)


@pytest.mark.parametrize("width", [5, 512, 700, 1024])
def test_draw_is_the_inverse_of_the_cumulated_probabilities(width):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(400, width, generator=generator, dtype=torch.float64)
    at = torch.rand(400, generator=generator, dtype=torch.float64)
    expected = (logits.softmax(-1).cumsum(-1) <= at[:, None]).sum(-1)
    assert torch.equal(draw(logits, at), expected)
    assert draw(logits.float(), at).max() < width


def test_draw_at_the_ends_takes_tokens_that_can_be():
    logits = torch.full((3, 600), -torch.inf)
    logits[:, [7, 580]] = 0.0
    at = torch.tensor([0.0, 0.4999, 1.0 - 2**-53], dtype=torch.float64)
    assert draw(logits, at).tolist() == [7, 7, 580]


def test_logits_that_are_no_numbers_are_refused():
    with pytest.raises(ModelError, match="logits are not all numbers"):
        draw(torch.tensor([[0.0, torch.nan]]), torch.tensor([0.5], dtype=torch.float64))


def test_budget_is_met_exactly():
    documents = [(1, 2, 3), (4, 5), (6, 7, 8)]
    assert list(budgeted_samples(documents, 6)) == [(1, 2, 3), (4, 5), (6,)]
    assert list(budgeted_samples(documents, 6, (0,))) == [(0, 1, 2, 3), (0, 4)]


def test_a_text_starts_behind_what_the_tokenizer_opens_with(tiny_model):
    opened, between, plain = (tiny_model(name) for name in ("llama", "qwen2", "gpt2"))
    for loaded, token in ((opened, "<s>"), (between, "<|endoftext|>"), (plain, "<s>")):
        assert loaded.encoder.tokenizer.convert_ids_to_tokens(start_of_text(loaded)) == token
    never = tiny_model("llama", start_token="never")
    assert start_of_text(never) == start_of_text(opened)


def test_progress_and_budget_of_all_rows(tiny_model):
    spec = CovarianceSpec(kind="samples", n_tokens=300, max_length=50)
    told = []
    rows = list(own_texts(tiny_model("qwen2"), spec, 0, lambda *seen: told.append(seen)))
    assert sum(map(len, rows)) == 300
    assert told[-1] == (300, 300)
    assert told == sorted(told)
