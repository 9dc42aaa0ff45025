"""The variables of the environment: their defaults, their errors, and the page that lists them."""

import dataclasses
import re
from pathlib import Path

import pytest

from editcollapse.errors import StudyError
from editcollapse.runtime.settings import Settings, settings, settings_table, variable_name

ROOT = Path(__file__).resolve().parents[3]


def test_defaults_hold_where_nothing_is_set():
    """An empty environment gives every field its default."""
    assert settings({}) == Settings()


def test_values_are_read():
    """Each variable reaches its field, with the field's type."""
    found = settings(
        {
            "EDITCOLLAPSE_DEVICE": "cuda:1",
            "EDITCOLLAPSE_TOKENS_PER_FORWARD": "4096",
            "EDITCOLLAPSE_TF32": "1",
            "EDITCOLLAPSE_UNIT_TIMEOUT_S": "0.5",
        }
    )
    assert (found.device, found.tokens_per_forward, found.tf32) == ("cuda:1", 4096, True)
    assert found.unit_timeout_s == 0.5


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("tokens_per_forward", "0", "a positive whole number"),
        ("tokens_per_forward", "many", "a positive whole number"),
        ("tf32", "yes", "0 or 1"),
        ("device_lock", "sometimes", "auto or always"),
        ("unit_timeout_s", "nan", "a positive number of seconds"),
        ("unit_timeout_s", "-1", "a positive number of seconds"),
    ],
)
def test_unusable_value_is_explained(field, text, words):
    """The sentence has the variable, the value that was found, and what it must be."""
    with pytest.raises(StudyError) as found:
        settings({variable_name(field): text})
    assert str(found.value) == f"{variable_name(field)} is {text!r}; it must be {words}."


def test_page_lists_every_variable():
    """One page has the table that the class writes, row by row."""
    table = "\n".join(settings_table())
    pages = [path for path in (ROOT / "docs").glob("*.md") if table in path.read_text("utf-8")]
    assert len(pages) == 1


def test_no_other_variable_is_read():
    """Whatever the package, its flows and storage call EDITCOLLAPSE_... is a field of the class."""
    known = {variable_name(field.name) for field in dataclasses.fields(Settings)}
    files = [
        path
        for folder in ("src", "flows", "tasks", "storage", "reports")
        for path in (ROOT / folder).rglob("*.py")
    ]
    named = {
        name
        for path in files
        for name in re.findall(r"EDITCOLLAPSE_[A-Z0-9_]+[A-Z0-9]", path.read_text("utf-8"))
    }
    assert named <= known
