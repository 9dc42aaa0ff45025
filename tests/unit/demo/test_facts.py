"""The project's own real-world facts: complete records, each about its own subject."""

import json
from collections import Counter
from pathlib import Path

import pytest

from editcollapse.data.datasets import read_requests
from editcollapse.data.requests import SLOT, EditRequest

FACTS = Path(__file__).parents[3] / "demo" / "facts.json"


@pytest.fixture(scope="module")
def requests() -> list[EditRequest]:
    """Return the facts as edit requests."""
    return [record.request for record in read_requests(FACTS).records]


def test_every_record_is_usable(requests: list[EditRequest]) -> None:
    """The reader rejects none, and each case id stands once."""
    records = json.loads(FACTS.read_text(encoding="utf-8"))
    assert len(requests) == len(records) >= 110
    assert len({record["case_id"] for record in records}) == len(records)


def test_facts_have_probes(requests: list[EditRequest]) -> None:
    """Each has a true object, a relation, two paraphrases of itself and four neighbours."""
    for each in requests:
        assert each.target_true is not None, each.subject
        assert each.relation_id is not None, each.subject
        assert len(set(each.paraphrase_prompts)) == 2, each.subject
        assert all(each.subject in prompt for prompt in each.paraphrase_prompts), each.subject
        assert each.filled_prompt not in each.paraphrase_prompts, each.subject
        assert len(set(each.neighborhood_prompts)) >= 4, each.subject


def test_neighbours_are_of_other_subjects(requests: list[EditRequest]) -> None:
    """No neighbour names the subject or gives its answer away."""
    for each in requests:
        assert each.target_true is not None
        for prompt in each.neighborhood_prompts:
            words = prompt.replace(",", " ").replace("'", " ").split()
            assert each.subject.split() != words[: len(each.subject.split())], prompt
            assert each.subject not in prompt, prompt
            assert f" {each.target_true} " not in f" {' '.join(words)} ", prompt


def test_texts_are_plain(requests: list[EditRequest]) -> None:
    """Texts are ASCII, without blanks at an end, and go on behind a word."""
    for each in requests:
        texts = (each.prompt, *each.paraphrase_prompts, *each.neighborhood_prompts)
        for text in (*texts, each.subject, each.target_new, str(each.target_true)):
            assert text.isascii(), text
            assert text == " ".join(text.split()), text
        assert all(text[-1].isalnum() for text in texts), each.prompt


def test_facts_are_diverse(requests: list[EditRequest]) -> None:
    """Many subjects and relations; half of the prompts begin with their subject's only word."""
    subjects = Counter(each.subject for each in requests)
    assert len(subjects) >= 100
    assert max(subjects.values()) <= 3
    assert len({each.relation_id for each in requests}) >= 30
    opening = [each for each in requests if each.prompt.startswith(SLOT)]
    assert len(opening) >= 75
    assert len(requests) - len(opening) >= 35
