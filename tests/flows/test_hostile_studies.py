"""Studies whose texts and names are code to something that handles them: run as any other."""

import json
import shutil
from pathlib import Path

import pytest

from flows.__main__ import main
from storage.ask import ask
from tests.support.small_study import fact, write_toml

TEXTS = [
    "'; drop table edits; --",
    "\"; attach 'x'; --",
    "{0.__class__.__init__.__globals__}",
    "{subject} {{x}} %s %(x)s ${HOME} $(id) `id`",
    "[red]markup[/red] [link=file:///etc/passwd]x[/link]",
    "nul \x00 bell \x07 escape \x1b[2J back \x08",
    "right \u202e left \u2066 zero \u200b",
    "=cmd|' /C calc'!A0",
    "../../../etc/passwd",
]
"""Subjects that are code to something that handles them."""


@pytest.fixture
def inputs(study: Path, tmp_path: Path) -> Path:
    """Return a folder with the small study and its inputs, free to be spoiled."""
    return shutil.copytree(study.parent, tmp_path / "inputs")


def _hostile(index: int, subject: str) -> dict[str, object]:
    record = fact(index)
    rewrite = record["requested_rewrite"]
    rewrite["subject"] = subject
    rewrite["prompt"] = "The name of {} {0} %s is" if index % 2 else "The name of {} is"
    return record


def test_hostile_texts_end_in_the_table_as_they_are(inputs, run_study, tmp_path, capsys):
    """Subjects and prompts that are SQL, formats, shell or markup are stored as text."""
    # The end of a subject has to be a word that the small tokenizer knows.
    subjects = [f"{text} Oslo" for text in TEXTS]
    facts = [_hostile(index, subject) for index, subject in enumerate(subjects)]
    (inputs / "facts.json").write_text(json.dumps(facts))
    results = tmp_path / "results"
    run_study(inputs / "study.toml", results)
    stored = ask(results, "select subject, prompt from requests order by record_index")
    assert stored["subject"].to_list() == subjects
    assert stored["prompt"].to_list() == [
        each["requested_rewrite"]["prompt"]
        for each in facts  # type: ignore[index]
    ]
    assert ask(results, "select count(distinct request_id) from edits").item() == len(TEXTS)

    # On a terminal what would clear the screen, or hide what follows, is written out.
    capsys.readouterr()
    assert main(["sql", "select subject from requests", "--results", str(results)]) == 0
    out = capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x07", "\x00", "\u202e", "\u2066"}
    assert "nul \\x00 bell \\x07 escape \\x1b[2J back \\x08" in out
    assert "[red]markup[/red]" in out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["..", "-rf"])
def test_name_is_part_of_no_path(inputs, run_study, tmp_path, name):
    """Names that mean something to a file system are names here: no file is called by them."""
    results = tmp_path / "deep/results"
    changes = {"name": name, "models.name": name, "dataset.limit": 1}
    run_study(write_toml(inputs / "study.toml", **changes), results)
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"results"}
    assert not [path for path in results.rglob("*") if path.name == name]
    assert ask(results, "select name from studies").item() == name
