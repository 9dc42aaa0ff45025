"""The benchmarks' random data has the lengths of real data, and its own seed."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from benchmarks import inputs
from benchmarks.models import SHAPES, word_tokenizer, words_of, write_model
from editcollapse.data.datasets import read_requests
from editcollapse.errors import DatasetError, ModelError
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.models.files import locate_model
from editcollapse.models.tokenization import Encoder

N_REQUESTS = 400


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer(500)


@pytest.fixture(scope="module")
def random_data(tokenizer):
    return drawn(tokenizer)


def drawn(tokenizer, seed=0):
    return inputs.random_inputs(
        words_of(tokenizer),
        n_requests=N_REQUESTS,
        n_texts=50,
        n_more_texts=200,
        n_corpus_tokens=5000,
        longest=256,
        seed=seed,
    )


def n_tokens(tokenizer, text):
    return len(tokenizer(text)["input_ids"])


def around_subject(audit):
    """Return a prompt's tokens before and behind its subject."""
    return audit.subject_first_index, audit.n_prompt_tokens - 1 - audit.subject_last_index


@pytest.mark.skipif(
    "EDITCOLLAPSE_SHARED" not in os.environ,
    reason="EDITCOLLAPSE_SHARED does not name the folder of third-party development data",
)
def test_counts_are_those_of_real_data():
    """The tables are what CounterFact and WikiText-2 give with GPT-2's tokenizer."""
    shared = Path(os.environ["EDITCOLLAPSE_SHARED"])
    tokenizer = AutoTokenizer.from_pretrained(shared / "tokenizers" / "gpt2")
    records = read_requests(shared / "data" / "counterfact_flat_300.jsonl").records
    encoder = Encoder(tokenizer, "never", 1024, "gpt2")
    rewrites, unusable = build_rewrites(encoder, ["{}"], [each.request for each in records])
    assert (len(rewrites), len(unusable)) == (300, 0)
    audits = [rewrite.audit for rewrite in rewrites]
    assert Counter(audit.n_subject_tokens for audit in audits) == inputs.SUBJECT_TOKENS
    assert Counter(map(around_subject, audits)) == inputs.AROUND_SUBJECT
    assert Counter(len(rewrite.target) for rewrite in rewrites) == inputs.TARGET_TOKENS
    lines = (shared / "data" / "wikitext2_test.txt").read_text(encoding="utf-8").splitlines()
    lengths = sorted(n_tokens(tokenizer, line.strip()) for line in lines if line.strip())
    middles = [lengths[int((share + 0.5) * len(lengths) / 40)] for share in range(40)]
    assert tuple(middles) == inputs.DOCUMENT_TOKENS


def test_a_seed_gives_the_same_data_again(tokenizer, random_data):
    assert drawn(tokenizer) == random_data
    assert drawn(tokenizer, seed=1) != random_data


def test_requests_follow_the_distributions(tokenizer, random_data):
    """Every length is one that was counted, and shares are near the counted ones."""
    encoder = Encoder(tokenizer, "never", 256, "words")
    rewrites, unusable = build_rewrites(encoder, random_data.templates, random_data.requests)
    assert not unusable
    subjects = Counter(rewrite.audit.n_subject_tokens for rewrite in rewrites)
    targets = Counter(len(rewrite.target) for rewrite in rewrites)
    around = Counter(around_subject(rewrite.audit) for rewrite in rewrites)
    for found, counted in (
        (subjects, inputs.SUBJECT_TOKENS),
        (targets, inputs.TARGET_TOKENS),
        (around, inputs.AROUND_SUBJECT),
    ):
        assert set(found) <= set(counted)
        assert sum(counted.values()) == 300
        for length, count in counted.items():
            assert found[length] / N_REQUESTS == pytest.approx(count / 300, abs=0.06)
    assert [
        len(prompt.ids) - len(rewrites[0].prompts[0].ids) for prompt in rewrites[0].prompts
    ] == [
        0,
        *[6] * 10,
        *[11] * 10,
    ]


def test_texts_are_as_long_as_those_of_me_ppl(tokenizer, random_data):
    """50 texts: mean 29 tokens, longest about 60, 48 % useful where padded to the longest."""
    lengths = [n_tokens(tokenizer, text) for text in random_data.texts[:50]]
    assert sum(lengths) / 50 == pytest.approx(29, abs=0.5)
    assert sum(lengths) / (50 * max(lengths)) == pytest.approx(0.48, abs=0.02)
    assert len(random_data.texts) == 200


def test_corpus_holds_what_was_asked_for(tokenizer, random_data):
    """Documents have the counted lengths, cut at what the model takes; long ones have all of it."""
    lengths = [n_tokens(tokenizer, document) for document in random_data.documents]
    assert 5000 <= sum(lengths) < 5000 + sum(inputs.DOCUMENT_TOKENS)
    assert set(lengths) == {min(length, 256) for length in inputs.DOCUMENT_TOKENS}
    assert {n_tokens(tokenizer, document) for document in random_data.long_documents} == {256}
    assert 256 * len(random_data.long_documents) >= 5000


def test_retargeted_requests_are_distinct_and_survive_a_file(tmp_path):
    """The overhead's study has 512 requests of the demo's 168 prompts."""
    data = inputs.demo_inputs(["{}"], 50, 512)
    assert len({request.request_id for request in data.requests}) == 512
    assert all(request.target_new != request.target_true for request in data.requests)
    path = inputs.write_counterfact(data.requests, tmp_path / "requests.json")
    found = [record.request for record in read_requests(path).records]
    assert [(each.prompt, each.subject, each.target_new) for each in found] == [
        (each.prompt, each.subject, each.target_new) for each in data.requests
    ]


def test_too_many_requests_are_told(tmp_path):
    known = inputs.demo_inputs(["{}"], 1, 2).requests
    with pytest.raises(DatasetError, match="5 requests were asked of 2 prompts"):
        inputs.retargeted(known, 5)


@pytest.mark.parametrize("name", ["tiny", "tiny-llama"])
def test_random_models_are_real_folders(tmp_path, name):
    """A folder of the asked shape, which the project recognises."""
    folder = write_model(SHAPES[name], tmp_path / name)
    files = locate_model(str(folder))
    assert (files.widths.n_layers, files.widths.d_model) == (3, 64)
    assert files.widths.n_vocabulary == SHAPES[name].n_vocabulary


def test_a_tokenizer_of_ones_own_gives_its_words(tmp_path, tiny_folder):
    """The toy byte-level tokenizer has too few words of one token, and says so."""
    folder = write_model(SHAPES["tiny"], tmp_path / "model", tiny_folder("qwen2"))
    with pytest.raises(ModelError, match=r"words of one token, 100 are needed"):
        words_of(AutoTokenizer.from_pretrained(folder))


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    word_tokenizer(1000).save_pretrained(tmp_path / "large")
    with pytest.raises(ModelError, match="has 1000 tokens, the model 512"):
        write_model(SHAPES["tiny"], tmp_path / "model", tmp_path / "large")
