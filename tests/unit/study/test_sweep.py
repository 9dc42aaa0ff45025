"""Layers as text: what is read, what is refused, and how layers are told."""

import pytest

from editcollapse.errors import StudyError
from editcollapse.study.sweep import check_layers, chosen_layers, layers_in_words


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("all", (0, 1, 2, 3, 4, 5)),
        ("3", (3,)),
        ("0-2,5", (0, 1, 2, 5)),
        (" 4 - 5 , 0-1,1 ", (0, 1, 4, 5)),
    ],
)
def test_layers_are_read(text, layers):
    """Ranges and single layers come out ascending, each once."""
    assert chosen_layers(text, 6, "m") == layers


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "'' is neither a layer nor a range"),
        ("0,,1", "'' is neither a layer nor a range"),
        ("first", "'first' is neither a layer nor a range of layers. Write all, or for example"),
        ("-1", "'-1' is neither a layer"),
        ("1-2-3", "'1-2-3' is neither a layer"),
        ("5-3", "the range 5-3 runs backwards. Write 3-5."),
    ],
)
def test_mistakes_are_told_before_a_model_is_known(text, sentence):
    """What is no list of layers is refused with the part that is wrong."""
    with pytest.raises(StudyError, match=f"^--layers '{text}'.*{sentence}"):
        check_layers(text)


def test_layer_that_a_model_lacks_is_told():
    """The sentence names model and layers."""
    check_layers("0-6")
    with pytest.raises(StudyError, match="layer 6 of tiny, which has layers 0 to 5"):
        chosen_layers("0-6", 6, "tiny")


@pytest.mark.parametrize(
    ("layers", "words"), [((), ""), ((2,), "2"), ((0, 1, 2, 5, 7, 8), "0-2, 5, 7-8")]
)
def test_layers_are_told_in_ranges(layers, words):
    """Neighbours are one range."""
    assert layers_in_words(layers) == words
