"""Counts of a dataset's positions are those of the rewrites that edits are made with."""

from collections import Counter

import pytest

from editcollapse.data.requests import EditRequest, RequestRecord
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.models import position_audit
from editcollapse.models.position_audit import count_positions
from editcollapse.models.tokenization import Encoder
from tests.support.toy_tokenizers import byte_tokenizer, merging_tokenizer, word_tokenizer

SUBJECTS = ("Lumo", "North Bram", "The", "Old Tarn", "Japan", "Xyz", "Tarn")
PROMPTS = ("{} is red", "The city of {} is", "{}, who was born")
TEMPLATES = ("{}", "One more thing. {}", "It was said. {}", "The river {}")


def records(target="blue"):
    """Return requests of every subject in every prompt."""
    pairs = [(prompt, subject) for prompt in PROMPTS for subject in SUBJECTS]
    return [
        RequestRecord(index, None, EditRequest(subject, prompt, target, None))
        for index, (prompt, subject) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    "tokenizer", [lambda: word_tokenizer(start=True), byte_tokenizer, merging_tokenizer]
)
@pytest.mark.parametrize("at_once", [4, 8192])
def test_counts_are_those_of_the_rewrites(tokenizer, at_once, monkeypatch):
    """Of each position, of other last tokens and of what cannot be used, with the same sentence."""
    monkeypatch.setattr(position_audit, "_AT_ONCE", at_once)
    encoder = Encoder(tokenizer(), "tokenizer", 200, "toy")
    rewrites, unusable = build_rewrites(encoder, TEMPLATES, [each.request for each in records()])
    found = count_positions(encoder, records(), TEMPLATES)
    audits = [each.audit for each in rewrites]
    expected = Counter(audit.subject_position for audit in audits)
    assert found.first_token == expected["first_token"] > 0
    assert found.first_several == expected["first_several"]
    assert found.inside == expected["inside"] > 0
    assert found.last_token_differs == sum(audit.last_token_differs for audit in audits)
    reasons = [text.partition(": ")[2] for text in found.unusable]
    assert reasons == [each.reason for each in unusable]


def test_targets_and_lengths_count():
    """A target that the tokenizer lacks, and a prompt that the model is too short for."""
    encoder = Encoder(word_tokenizer(start=False), "tokenizer", 3, "toy")
    found = count_positions(encoder, records(), ())
    assert any("tokens; toy takes 3" in text for text in found.unusable)
    assert all(
        "Xyzzy" in text
        for text in count_positions(
            Encoder(word_tokenizer(start=False), "tokenizer", 99, "toy"), records("Xyzzy")[:1], ()
        ).unusable
    )
    assert found.unusable[0].startswith("record ")


def test_no_context_no_difference():
    """With the bare template alone there is nothing that a last token could differ from."""
    encoder = Encoder(merging_tokenizer(), "tokenizer", 200, "toy")
    assert count_positions(encoder, records(), TEMPLATES).last_token_differs > 0
    assert count_positions(encoder, records(), ("{}",)).last_token_differs == 0
