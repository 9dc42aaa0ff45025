"""Text sets for perplexity: what is kept to the letter, and what is refused."""

import json
import os
from pathlib import Path

import pytest

from editcollapse.config.spec import EvaluationSpec
from editcollapse.data.texts import NEUTRAL_TEXTS, read_texts, texts_file
from editcollapse.errors import DatasetError


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_neutral_texts_are_what_is_said_of_them():
    """The package's own: fifty different texts of 81 to 91 words in plain ASCII."""
    found = read_texts(texts_file(EvaluationSpec()))
    words = [len(text.split()) for text in found.texts]
    assert (len(set(found.texts)), min(words), max(words)) == (50, 81, 91)
    assert all(text.isascii() and text.endswith(".") for text in found.texts)
    assert found.rejections == ()


def test_own_texts_go_before_the_packages():
    """A study that names texts has those."""
    assert texts_file(EvaluationSpec(texts="/a/b.txt")) == Path("/a/b.txt")
    assert NEUTRAL_TEXTS.is_file()


def test_me_ppl_list(tmp_path):
    """A list of ME-PPL objects gives its texts in order, leading blanks kept."""
    entries = [{"Corpus": "C4", "Text": " leads with a blank"}, {"Corpus": "x", "Text": "b "}]
    found = read_texts(write(tmp_path, "ME-PPL_50.json", json.dumps(entries)))
    assert found.name == "ME-PPL_50"
    assert found.texts == (" leads with a blank", "b ")
    assert found.rejections == ()


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_of_json(tmp_path, end, mark):
    """JSONL entries may be objects with either field, or plain strings; line ends do not matter."""
    lines = ['{"text": " a"}', "", '{"Text": "b"}', '"c\\u2028c"', ""]
    found = read_texts(write(tmp_path, "a.jsonl", mark + end.join(lines)))
    assert found.texts == (" a", "b", "c\u2028c")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_of_text(tmp_path, end):
    """A text file holds one text per line that is not blank; U+2028 ends no line."""
    lines = ["  first ", " \t", "", "second\u2028still second", "third"]
    found = read_texts(write(tmp_path, "a.txt", end.join(lines)))
    assert found.texts == ("  first ", "second\u2028still second", "third")


def test_only_trailing_line_ends_are_removed(tmp_path):
    """A text keeps its inner line ends and trailing blanks and loses its last line ends."""
    found = read_texts(write(tmp_path, "a.json", json.dumps(["\n a\nb \r\n\n"])))
    assert found.texts == ("\n a\nb ",)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("", "the text is empty"),
        (" \n", "the text is empty"),
        (None, "the text is empty"),
        ({"Text": None}, "the text is empty"),
        (3, "the entry is the number 3 where a string is expected"),
        ({"Text": ["a"]}, "Text is a list of 1 where a string is expected"),
        ({"Corpus": "C4"}, "no field 'text' or 'Text' (it has 'Corpus')"),
        ({}, "(it has none)"),
        ("\ud83d", "holds a lone surrogate"),
    ],
)
def test_unusable_text_is_rejected(tmp_path, bad, said):
    """A text that cannot be used is rejected with its position, and the others are read."""
    found = read_texts(write(tmp_path, "a.json", json.dumps(["good", bad])))
    assert found.texts == ("good",)
    (rejection,) = found.rejections
    assert rejection.record_index == 1
    assert said in rejection.reason


def test_malformed_line_is_rejected(tmp_path):
    """A broken line of JSONL is rejected with its number."""
    found = read_texts(write(tmp_path, "a.jsonl", '"good"\n{"Text": \n"more"'))
    assert found.texts == ("good", "more")
    assert "line 2 is not valid JSON" in found.rejections[0].reason


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "", "holds no usable text"),
        ("a.txt", " \n\n", "holds no usable text"),
        ("a.txt", b"caf\xe9", "is not UTF-8"),
        ("a.json", "[]", "holds no usable text"),
        ("a.json", '[""]', "holds no usable text (record 0: the text is empty"),
        ("a.json", '{"Text": "a"}', "one object (with 'Text') where a list"),
        ("a.json", '["a",', "is not valid JSON"),
        ("a.jsonl", "", "is empty"),
        ("a.csv", "a", "whose suffix '.csv' is unknown"),
    ],
)
def test_useless_file_is_an_error(tmp_path, name, content, said):
    """A file without a usable text is refused with its path."""
    path = write(tmp_path, name, content)
    with pytest.raises(DatasetError) as caught:
        read_texts(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["none.txt", "none.json"])
def test_missing_file_is_an_error(tmp_path, name):
    """A missing file is named."""
    with pytest.raises(DatasetError, match="which does not exist"):
        read_texts(tmp_path / name)


def test_identity_is_the_content(tmp_path):
    """Equal bytes under another name have the same digest."""
    first, second = write(tmp_path, "a.txt", "a"), write(tmp_path, "b.txt", "a")
    assert read_texts(first).content_digest == read_texts(second).content_digest
    assert (
        read_texts(write(tmp_path, "c.txt", "c")).content_digest != read_texts(first).content_digest
    )


@pytest.mark.skipif(
    "EDITCOLLAPSE_SHARED" not in os.environ,
    reason="EDITCOLLAPSE_SHARED does not name the folder of third-party development data",
)
def test_real_text_file_is_read_whole():
    """Every non-blank line of WikiText-2's test split is a text that starts with its blank."""
    found = read_texts(Path(os.environ["EDITCOLLAPSE_SHARED"]) / "data" / "wikitext2_test.txt")
    assert len(found.texts) == 2891
    assert all(text.startswith(" ") for text in found.texts)
