"""The synthetic world and the demo's data. Reads ``demo/``; imports no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from demo.train.demo_data import GROUPS, corpus, cut_documents, edit_records, write_demo_data
from demo.train.synthetic_corpus import (
    TOKEN,
    SyntheticCorpus,
    build_synthetic_corpus,
    documents,
    n_tokens,
)
from editcollapse.data.datasets import read_requests

DEMO = Path(__file__).resolve().parents[3] / "demo"
_DATA = ("counterfact.json", "sequence.json", "sequence_long.json", "texts.jsonl", "corpus.txt")


@pytest.fixture(scope="module")
def synthetic() -> SyntheticCorpus:
    """Return the world of the demo."""
    return build_synthetic_corpus(0)


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    """Return the shipped edit requests."""
    return json.loads((DEMO / "counterfact.json").read_text(encoding="utf-8"))


def test_corpus_has_the_entities_and_facts_of_its_description(synthetic: SyntheticCorpus) -> None:
    """24 one-word, 12 two-word and 12 three-word names a kind; an object for each relation."""
    count = Counter((entity.kind, entity.n_words) for entity in synthetic.entities)
    kinds = {entity.kind for entity in synthetic.entities}
    assert count == {(kind, n): m for kind in kinds for n, m in ((1, 24), (2, 12), (3, 12))}
    assert len({entity.name for entity in synthetic.entities}) == 144
    assert len(synthetic.objects) == 576


def test_one_word_names_are_no_other_words(synthetic: SyntheticCorpus) -> None:
    """An invented name is used for nothing else, so that a subject's facts are its own."""
    others = [e.name for e in synthetic.entities if e.n_words > 1]
    others += [word for relation in synthetic.relations for word in relation.objects]
    others += [template for relation in synthetic.relations for template in relation.templates]
    used = {token for text in others for token in TOKEN.findall(text)}
    assert not used & {e.name for e in synthetic.entities if e.n_words == 1}


def test_last_word_of_a_longer_name_is_ambiguous(synthetic: SyntheticCorpus) -> None:
    """Of 72 longer names, one at most is told apart by its last token alone."""
    last = Counter(e.name.split()[-1] for e in synthetic.entities if e.n_words > 1)
    assert last.total() == 72
    assert sum(count == 1 for count in last.values()) <= 1


def test_every_relation_has_two_templates_of_each_form(synthetic: SyntheticCorpus) -> None:
    """Two templates begin with the subject, two do not, and each holds one slot."""
    for relation in synthetic.relations:
        assert len(relation.templates_where(subject_first=True)) == 2
        assert len(relation.templates_where(subject_first=False)) == 2
        assert all(template.count("{}") == 1 for template in relation.templates)
        assert len(set(relation.objects)) == len(relation.objects)


def test_vocabulary_covers_the_documents(synthetic: SyntheticCorpus) -> None:
    """No document holds a word that the tokenizer does not know."""
    texts = " ".join(islice(documents(synthetic, "vocabulary test"), 3000))
    assert set(TOKEN.findall(texts)) <= set(synthetic.vocabulary)


def test_streams_differ_and_repeat(synthetic: SyntheticCorpus) -> None:
    """A stream is the same ever; training text, corpus and held-out texts are different draws."""
    first = list(islice(documents(synthetic, "train"), 20))
    assert first == list(islice(documents(synthetic, "train"), 20))
    assert not set(first) & set(islice(documents(synthetic, "corpus"), 20))
    assert build_synthetic_corpus(1).objects != synthetic.objects


def test_corpus_does_not_depend_on_the_hash_seed(synthetic: SyntheticCorpus) -> None:
    """Another PYTHONHASHSEED gives the same words, facts and documents."""
    program = (
        "from itertools import islice\n"
        "from demo.train.synthetic_corpus import build_synthetic_corpus, documents\n"
        "world = build_synthetic_corpus(0)\n"
        "print(world.vocabulary, world.objects, list(islice(documents(world, 'x'), 3)))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    here = (synthetic.vocabulary, synthetic.objects, list(islice(documents(synthetic, "x"), 3)))
    assert printed == {" ".join(str(part) for part in here) + "\n"}


def test_cut_documents_end_with_a_sentence(synthetic: SyntheticCorpus) -> None:
    """A cut document keeps whole sentences and no more than the tokens asked for."""
    pairs = zip(cut_documents(synthetic, "x", 40), documents(synthetic, "x"), strict=False)
    for cut, whole in islice(pairs, 200):
        assert whole.startswith(cut)
        assert cut.endswith(".")
        assert 0 < n_tokens(cut) <= 40


def test_shipped_data_is_what_the_corpus_writes(synthetic: SyntheticCorpus, tmp_path: Path) -> None:
    """``demo/`` holds exactly what the code writes."""
    for path in write_demo_data(synthetic, tmp_path):
        assert path.read_bytes() == (DEMO / path.name).read_bytes(), path.name


def test_shipped_data_is_small_and_of_the_sizes_stated(synthetic: SyntheticCorpus) -> None:
    """Fifty texts of about 40 tokens; a corpus of 40-60 thousand; 1.3 megabytes in all at most."""
    lines = (DEMO / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    lengths = [n_tokens(json.loads(line)["Text"]) for line in lines]
    assert len(lengths) == 50
    assert 34 <= min(lengths) <= max(lengths) <= 44
    assert 40_000 < n_tokens(corpus(synthetic)) < 60_000
    assert sum((DEMO / name).stat().st_size for name in _DATA) < 1_300_000


def test_shipped_requests_state_facts_of_the_corpus(
    synthetic: SyntheticCorpus, records: list[dict[str, Any]]
) -> None:
    """``target_true`` is the subject's object, ``target_new`` another of the same relation."""
    relations = {relation.relation_id: relation for relation in synthetic.relations}
    for record in records:
        rewrite = record["requested_rewrite"]
        relation = relations[rewrite["relation_id"]]
        assert rewrite["prompt"] in relation.templates
        true, new = rewrite["target_true"]["str"], rewrite["target_new"]["str"]
        assert synthetic.objects[rewrite["subject"], rewrite["relation_id"]] == true
        assert new != true
        assert new in relation.objects


def test_shipped_requests_are_different_edits_of_the_groups_stated(
    records: list[dict[str, Any]],
) -> None:
    """72 requests have a one-token subject first, 96 are others; no edit occurs twice."""
    rewrites = [record["requested_rewrite"] for record in records]
    groups = Counter((len(r["subject"].split()), r["prompt"].startswith("{}")) for r in rewrites)
    assert groups == {(n_words, first): count for n_words, first, count in GROUPS}
    assert len({(r["subject"], r["relation_id"], r["prompt"]) for r in rewrites}) == len(rewrites)
    assert [record["case_id"] for record in records] == list(range(168))


def test_shipped_probes_ask_what_they_should(
    synthetic: SyntheticCorpus, records: list[dict[str, Any]]
) -> None:
    """Paraphrases state the same fact, subject first and not; neighbors share the true object."""
    stated = {
        template.replace("{}", name): (name, relation_id)
        for (name, relation_id) in synthetic.objects
        for relation in synthetic.relations
        if relation.relation_id == relation_id
        for template in relation.templates
    }
    for record in records:
        rewrite = record["requested_rewrite"]
        fact = (rewrite["subject"], rewrite["relation_id"])
        paraphrases = record["paraphrase_prompts"]
        assert [stated[prompt] for prompt in paraphrases] == [fact, fact]
        assert [prompt.startswith(fact[0]) for prompt in paraphrases] == [True, False]
        assert rewrite["prompt"].replace("{}", fact[0]) not in paraphrases
        assert 1 <= len(record["neighborhood_prompts"]) <= 6
        for prompt in record["neighborhood_prompts"]:
            name, relation_id = stated[prompt]
            assert name != fact[0]
            assert relation_id == fact[1]
            assert synthetic.objects[name, relation_id] == rewrite["target_true"]["str"]


def test_reader_takes_every_shipped_request() -> None:
    """The project's own reader accepts all 168 and rejects none."""
    found = read_requests(DEMO / "counterfact.json")
    assert len(found.records) == 168
    assert not found.rejections


def test_records_are_the_same_on_every_call(synthetic: SyntheticCorpus) -> None:
    """The requests are a function of the world's seed."""
    assert edit_records(synthetic) == edit_records(build_synthetic_corpus(0))
    assert edit_records(synthetic) != edit_records(build_synthetic_corpus(1))
