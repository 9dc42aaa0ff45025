"""Context templates: seeded, of the published lengths, from five words or from the start token."""

import dataclasses

import pytest

from editcollapse.errors import ModelError
from editcollapse.rome.templates import FIVE_WORDS, TOP_K, _clean, generate_templates
from editcollapse.study.jobs import template_set_id_of
from tests.support import reference
from tests.support.cases import reference_setup

PUBLISHED = ((5, 10), (10, 10))


def lengths_of(loaded, drawn):
    """Return the number of words of each drawn text."""
    return [len(loaded.encoder.encode(text.removesuffix(". {}"))) for text in drawn.templates[1:]]


def test_same_seed_same_templates(tiny_model):
    """A seed decides the texts; another seed gives others."""
    loaded = tiny_model("gpt2")
    first, again, other = (
        generate_templates(loaded, "five_words", PUBLISHED, seed) for seed in (3, 3, 4)
    )
    assert first == again
    assert first.templates != other.templates
    assert first.seed == 3


def test_five_words_in_turn(tiny_model):
    """The bare template comes first, then the five words, each as often, at each length."""
    loaded = tiny_model("gpt2")
    drawn = generate_templates(loaded, "five_words", PUBLISHED, 0)
    assert drawn.templates[0] == "{}"
    assert len(drawn.templates) == 21
    opens = [template.split()[0].rstrip(".") for template in drawn.templates[1:]]
    assert opens == [word for _ in PUBLISHED for word in FIVE_WORDS for _ in range(2)]
    assert all(template.endswith(". {}") for template in drawn.templates[1:])
    assert all(template.count("{}") == 1 for template in drawn.templates)


def test_number_that_five_does_not_divide(tiny_model):
    """Any number of texts is drawn, however many the words are."""
    drawn = generate_templates(tiny_model("gpt2"), "five_words", ((4, 3), (3, 7)), 0)
    assert len(drawn.templates) == 11


@pytest.mark.parametrize("variant", ["gpt2", "llama"])
def test_lengths_count_the_start_token(tiny_model, variant):
    """A text of total length n has n tokens, a start token among them."""
    loaded = tiny_model(variant)
    drawn = generate_templates(loaded, "five_words", ((5, 40), (9, 40)), 0)
    opened = len(loaded.encoder.start_ids)
    # Special tokens that the model draws are not written out, so a text may be shorter.
    assert max(lengths_of(loaded, drawn)[:40]) == 5 - opened
    assert max(lengths_of(loaded, drawn)[40:]) == 9 - opened


def test_start_token_kind_draws_from_the_best_five(tiny_model):
    """Texts open with the start token; each token is among the five most likely at its place."""
    loaded = tiny_model("gpt2")
    setup = reference_setup(loaded)
    drawn = generate_templates(loaded, "start_token", ((5, 4), (10, 4)), 7)
    lengths = [5] * 4 + [10] * 4
    checked = 0
    for text, length in zip(drawn.templates[1:], lengths, strict=True):
        ids = loaded.encoder.encode(text.removesuffix(". {}"))
        assert len(ids) < length
        if len(ids) < length - 1:
            continue  # a special token was drawn and is not written out
        row = [loaded.encoder.tokenizer.bos_token_id]
        for token in ids:
            assert token in reference.log_probs(setup, row)[-1].topk(TOP_K).indices
            row.append(token)
        checked += 1
    assert checked > 2


def test_start_token_needs_a_token(tiny_model):
    """A tokenizer without BOS and end-of-text has nothing to start from."""
    loaded = tiny_model("gpt2")
    encoder = loaded.encoder
    silent = dataclasses.replace(loaded, encoder=_Silent(encoder))
    with pytest.raises(ModelError, match=r'neither a BOS.*Use "five_words" or a file'):
        generate_templates(silent, "start_token", PUBLISHED, 0)


class _Silent:
    """An encoder whose tokenizer names no special token."""

    def __init__(self, encoder):
        self.start_ids = encoder.start_ids
        self.tokenizer = type("Tokenizer", (), {"bos_token_id": None, "eos_token_id": None})()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a {} b", "a b"),
        ("a\n\nb", "a b"),
        ("a<|endoftext|>", "a"),
        ("ﬁne", "fine"),
        ("｛｝ wide", "wide"),
        (" a ", "a"),
    ],
)
def test_texts_are_cleaned(text, expected):
    """Braces, double line ends, the end-of-text mark and compatibility characters go."""
    holder = type("Holder", (), {})
    loaded = holder()
    loaded.encoder = holder()
    loaded.encoder.tokenizer = holder()
    loaded.encoder.tokenizer.decode = lambda _ids, **_options: text
    assert _clean(loaded, []).split() == expected.split()
    assert "{" not in _clean(loaded, [])


def test_set_id_is_of_texts_and_model():
    """Token ids belong to a set, so the same texts under another model are another set."""
    texts = ("{}", "It is. {}")
    assert template_set_id_of("one", texts) == template_set_id_of("one", texts)
    assert template_set_id_of("one", texts) != template_set_id_of("other", texts)
    assert template_set_id_of("one", texts) != template_set_id_of("one", texts[:1])
