"""Free answers against targets, and fluency: known values, worked out by hand."""

import math

import pytest

from editcollapse.evaluation.fluency import ngram_entropy
from editcollapse.evaluation.free_answers import (
    contains_match,
    cut_at_stop,
    exact_match,
    normalised,
)

STOPS = (".", "\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Paris.", "paris"),
        ("The  Beatles", "beatles"),
        ("an apple a day", "apple day"),
        ("U.S.A.", "usa"),
        ("Anna, the theatre", "anna theatre"),  # articles are whole words
        ("rock 'n' roll!", "rock n roll"),
        ("Zürich–Nord", "zürich–nord"),  # as SQuAD: punctuation is ASCII's
        ("the a an", ""),
        ("\t\n", ""),
    ],
)
def test_normalisation_is_squads(text, expected):
    """Lower case, no ASCII punctuation, no articles, blanks joined."""
    assert normalised(text) == expected


@pytest.mark.parametrize(
    ("text", "target", "exact", "contains"),
    [
        (" Paris", "Paris", True, True),
        ("the city of Paris, France", "Paris", False, True),
        ("Parisian", "Paris", False, False),
        ("", "Paris", False, False),
        ("New York City", "York", False, True),
        (None, "Paris", None, None),
        ("Paris", None, None, None),
        ("Paris", "The", None, None),  # nothing is left to compare with
    ],
)
def test_matches(text, target, exact, contains):
    """Equal or contained as whole words; what cannot be compared is neither right nor wrong."""
    assert exact_match(text, target) is exact
    assert contains_match(text, target) is contains


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Paris. It", " Paris"),
        (" Paris\nQ: no. ", " Paris"),
        ("\nParis", ""),
        (" 3.5 million", " 3"),  # as published: any full stop
        (" Paris", " Paris"),
    ],
)
def test_text_ends_at_its_first_stop_string(text, expected):
    """Whichever string comes first, and what follows is gone."""
    assert cut_at_stop(text, STOPS) == expected
    assert cut_at_stop(text, ()) == text


def test_entropy_is_the_published_one():
    """Of "a b a b a": bigrams ab, ba twice each: 1 bit; trigrams aba 2, bab 1: 0.918 bits."""
    trigrams = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))
    assert ngram_entropy("a b a b a") == pytest.approx((2 / 3 * 1 + 4 / 3 * trigrams) / 2)
    # Six different words: five bigrams, four trigrams.
    expected = (2 / 3 * math.log2(5) + 4 / 3 * 2) / 2
    assert ngram_entropy("one two three four five six") == pytest.approx(expected)


@pytest.mark.parametrize(("text", "expected"), [("the the the the", 0.0), ("two words", None)])
def test_entropy_of_repeated_and_of_short_texts(text, expected):
    """A text that repeats one word has none; of a text without trigrams it is not known."""
    assert ngram_entropy(text) == expected


def test_punctuation_is_a_word_of_its_own():
    """Of "a, b." there are four words."""
    assert ngram_entropy("a, b.") == pytest.approx((2 / 3 * math.log2(3) + 4 / 3 * 1) / 2)
