"""Files of requests, texts, corpora and studies: whatever they hold is text, or is refused."""

import json
import random
import shutil
from pathlib import Path

import polars as pl
import pytest

from editcollapse.config.study_file import read_study
from editcollapse.data.corpora import open_corpus
from editcollapse.data.datasets import read_requests
from editcollapse.errors import DatasetError, EditCollapseError, ResultsError, StudyError
from editcollapse.fingerprints import digest_file
from flows.__main__ import USER_ERROR, main
from storage import ingest as module
from storage.ingest import RowsFile, read_rows
from tests.support.small_study import fact, write_toml

_NESTED = b"[" * 200_000


@pytest.fixture
def inputs(study: Path, tmp_path: Path) -> Path:
    """Return a folder with the small study and its inputs, free to be spoiled."""
    return shutil.copytree(study.parent, tmp_path / "inputs")


@pytest.mark.parametrize(
    "value",
    [5, 10**4000, float("nan"), float("inf"), [1], {"__class__": "os.system"}, True, None],
    ids=["int", "huge int", "nan", "inf", "list", "object", "truth", "null"],
)
def test_value_of_another_type_is_rejected(inputs, capsys, value):
    """A subject that is no text costs its record, with a reason; the plan is made all the same."""
    bad = fact(1)
    bad["requested_rewrite"]["subject"] = value
    (inputs / "facts.json").write_text(json.dumps([fact(0), bad]))
    assert main(["plan", str(inputs / "study.toml"), "--results", str(inputs / "r")]) == 0
    out = capsys.readouterr().out
    assert "record 1" in out
    assert "subject is" in out


@pytest.mark.parametrize("length", [200_000, 100_000_000])
def test_enormous_subject_is_rejected(inputs, length):
    """A text that no model takes is rejected before it is tokenized; the other record is used."""
    bad = fact(1)
    bad["requested_rewrite"] |= {"subject": "x" * length, "prompt": "The name of {} is"}
    (inputs / "facts.json").write_text(json.dumps([fact(0), bad]))
    found = read_requests(inputs / "facts.json")
    assert len(found.records) == 1
    (rejection,) = found.rejections
    assert rejection.reason.startswith(f"requested_rewrite.subject has {length} characters")


@pytest.mark.parametrize("name", ["facts.json", "texts.json", "corpus.txt", "study.toml"])
@pytest.mark.parametrize("content", [_NESTED, b"a = " + _NESTED, b'{"a":' * 100_000, b"9" * 5000])
def test_nesting_without_end_is_a_mistake_of_the_file(inputs, capsys, name, content):
    """No parser's limit ends in a traceback, whichever file it is."""
    (inputs / name).write_bytes(content)
    status = main(["plan", str(inputs / "study.toml"), "--results", str(inputs / "results")])
    err = capsys.readouterr().err
    assert "Traceback" not in err
    if name != "corpus.txt":  # there it is a document of one word
        assert status == USER_ERROR
        assert name in err


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/b",
        "a\\b",
        "a\nb",
        "a\x00",
        "'; drop table edits; --",
        "{0.__class__}",
        "$(id)",
        "",
    ],
)
@pytest.mark.parametrize("field", ["name", "models.name"])
def test_names_with_path_characters_are_refused(inputs, field, name):
    """Names of studies and models are letters, digits and three signs."""
    with pytest.raises(StudyError, match="should match pattern"):
        read_study(write_toml(inputs / "study.toml", **{field: name}))


def test_parquet_that_lies_is_refused(tmp_path):
    """Whatever bytes of a Parquet corpus change, it is read or refused; the reader's panics too."""
    path = tmp_path / "corpus.parquet"
    pl.DataFrame({"text": ["The city is old"] * 200}).write_parquet(path)
    whole = path.read_bytes()
    draw = random.Random(0)
    outcomes = set()
    for trial in range(150):
        changed = bytearray(whole)
        for _ in range(draw.choice([1, 2, 8])):
            start = len(whole) - 400 if trial % 2 else 0
            changed[draw.randrange(max(start, 0), len(whole))] = draw.randrange(256)
        path.write_bytes(changed)
        try:
            outcomes.add(type(open_corpus(str(path)).documents().__next__()))
        except DatasetError as error:
            outcomes.add(type(error))
    assert outcomes == {str, DatasetError}


def test_parquet_of_fifty_million_rows_is_read_as_far_as_it_is_asked(tmp_path):
    """A small file with an enormous number of rows is streamed, not loaded."""
    path = tmp_path / "corpus.parquet"
    pl.select(pl.repeat("a b c", 50_000_000).alias("text")).write_parquet(path)
    assert path.stat().st_size < 1 << 22
    corpus = open_corpus(str(path))
    assert corpus.n_documents == 50_000_000
    assert next(iter(corpus.documents())) == "a b c"


def test_row_file_of_too_many_rows_is_refused(folder, make_row, monkeypatch):
    """What a row file's footer claims is looked at before its rows are made."""
    file = folder.write("models", *(make_row("models", model_id=f"m{i}") for i in range(11)))
    monkeypatch.setattr(module, "MAX_ROWS", 10)
    with pytest.raises(ResultsError, match="claims 11 rows"):
        read_rows(folder.results, file)


def test_row_file_that_lies_is_refused(folder, make_row):
    """A row file whose digest fits and whose inside does not is a sentence, never a panic."""
    file = folder.write("models", make_row("models"))
    whole = (folder.results / file.path).read_bytes()
    draw = random.Random(1)
    for _ in range(60):
        changed = bytearray(whole)
        for _ in range(4):
            changed[draw.randrange(len(whole) - 2000, len(whole))] = draw.randrange(256)
        path = folder.results / "changed.parquet"
        path.write_bytes(changed)
        try:
            read_rows(folder.results, RowsFile("models", path, digest_file(path)))
        except EditCollapseError:
            continue
