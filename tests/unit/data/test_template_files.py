"""Files of context templates."""

import json

import pytest

from editcollapse.data.texts import read_templates
from editcollapse.errors import DatasetError


def write(folder, value):
    path = folder / "templates.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_templates_keep_their_job(tmp_path):
    """Templates come back to the letter, in file order, other braces and blanks included."""
    listed = ["{}", "Then it rained. {}", " {a} and { b }: {}", "東京。{}"]
    assert read_templates(write(tmp_path, listed)) == tuple(listed)


def test_bare_prompt_is_moved_first(tmp_path):
    """The bare prompt comes first wherever it stands; the others keep their order."""
    assert read_templates(write(tmp_path, ["b. {}", "{}", "a. {}"])) == ("{}", "b. {}", "a. {}")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "0 templates lack the bare prompt"),
        (["a. {}"], 'Add "{}" as the first one'),
        (["{}", "no slot"], "template 1 of"),
        (["{}", "no slot"], "it has 0 slots {} in 'no slot'"),
        (["{}", "{} and {}"], "it has 2 slots"),
        (["{}", "{} goes on"], "write exactly one, at the end"),
        (["{}", "a {}", "a {}"], "'a {}' is there already, as template 1"),
        (["{}", "{}"], "is there already, as template 0"),
        (["{}", 3], "it is the number 3 where a string is expected"),
        (["{}", None], "it is null"),
        (["{}", ""], "it is empty"),
        (["{}", "\ud800 {}"], "lone surrogate"),
        ({"templates": ["{}"]}, "one object (with 'templates') where a list"),
        ("", "is empty"),
        ('["{}",', "is not valid JSON"),
    ],
)
def test_unusable_templates_are_an_error(tmp_path, value, said):
    """A file of templates is taken whole or refused with the place and the reason."""
    with pytest.raises(DatasetError) as caught:
        read_templates(write(tmp_path, value))
    assert said in str(caught.value)


def test_missing_file_is_an_error(tmp_path):
    """A missing file is named."""
    with pytest.raises(DatasetError, match="which does not exist"):
        read_templates(tmp_path / "none.json")
