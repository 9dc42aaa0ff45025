"""Corpora: what a document is in each format, and that a corpus can be read again."""

import json
import os
import pickle
import sys
import types
from pathlib import Path

import polars as pl
import pytest

from editcollapse.data import corpora
from editcollapse.data.corpora import open_corpus
from editcollapse.errors import DatasetError


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(source, **options):
    return list(open_corpus(source, **options).documents())


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_text_documents_stand_between_blank_lines(tmp_path, end, mark):
    """Blank lines, white space included, separate documents; leading blanks are kept."""
    lines = ["", " = Title = ", " ", " one", "two ", "", "\t", "three\u2028same line", ""]
    source = write(tmp_path, "a.txt", mark + end.join(lines))
    assert read(source) == [" = Title = ", " one\ntwo ", "three\u2028same line"]


def test_text_without_blank_line_is_one_document(tmp_path):
    """Lines that follow each other belong together, whatever the suffix."""
    assert read(write(tmp_path, "corpus.dat", "a\nb\nc")) == ["a\nb\nc"]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson"])
def test_json_entries_are_documents(tmp_path, name):
    """Each entry is a document, by either field or as a plain string; blank ones are skipped."""
    entries = [
        {"text": " a\n\nb"},
        {"Text": "c", "id": 3},
        "d",
        {"text": " "},
        {"text": None},
        None,
    ]
    lines = "\n".join(json.dumps(entry) for entry in entries)
    content = json.dumps(entries) if name == "a.json" else lines
    assert read(write(tmp_path, name, content)) == [" a\n\nb", "c", "d"]


def test_json_field_can_be_named(tmp_path):
    """A named field is read instead, and is part of the corpus's identity."""
    source = write(tmp_path, "a.jsonl", json.dumps({"text": "a", "body": "b"}))
    plain, named = open_corpus(source), open_corpus(source, text_field="body")
    assert (list(plain.documents()), list(named.documents())) == (["a"], ["b"])
    assert plain.content_digest != named.content_digest
    assert open_corpus(source, text_field="text").content_digest == plain.content_digest


def test_field_does_not_matter_to_a_text_file(tmp_path):
    """A text file has no fields, so naming one changes nothing."""
    source = write(tmp_path, "a.txt", "a")
    assert (
        open_corpus(source, text_field="body").content_digest == open_corpus(source).content_digest
    )


@pytest.mark.parametrize("column", ["text", "Text", "body"])
def test_parquet_rows_are_documents(tmp_path, monkeypatch, column):
    """Rows come in order across batches and row groups; blank and null ones are skipped."""
    monkeypatch.setattr(corpora, "_ROWS_AT_ONCE", 7)
    values = [f" document {index}" for index in range(50)]
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame({"id": range(52), column: [*values[:20], None, " ", *values[20:]]})
    frame.write_parquet(path, row_group_size=11)
    corpus = open_corpus(str(path), text_field="body" if column == "body" else None)
    assert list(corpus.documents()) == values
    assert corpus.n_documents == 52


@pytest.mark.parametrize(
    ("columns", "field", "said"),
    [
        ({"body": ["a"]}, None, "a text column 'text' or 'Text' was asked"),
        ({"body": ["a"]}, "title", "a text column 'title' was asked"),
        ({"text": [1]}, None, "which has text (Int64)"),
    ],
)
def test_parquet_without_text_column_is_an_error(tmp_path, columns, field, said):
    """A Parquet file without the column of strings says which columns it has."""
    path = tmp_path / "a.parquet"
    pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(DatasetError) as caught:
        open_corpus(str(path), text_field=field)
    assert said in str(caught.value)


def test_parquet_name_is_no_pattern(tmp_path):
    """Brackets in a file name are not taken as a wildcard."""
    path = tmp_path / "a[1].parquet"
    pl.DataFrame({"text": ["a"]}).write_parquet(path)
    assert read(str(path)) == ["a"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_corpus_can_be_read_again(tmp_path, name):
    """Two passes give the same documents, also interleaved, and after pickling."""
    path = tmp_path / name
    if name == "a.parquet":
        pl.DataFrame({"text": ["a", "b"]}).write_parquet(path)
    else:
        path.write_text("a\n\nb\n" if name == "a.txt" else '"a"\n"b"\n', encoding="utf-8")
    corpus = open_corpus(str(path))
    first, second = corpus.documents(), corpus.documents()
    assert [next(first), next(second), next(first), next(second)] == ["a", "a", "b", "b"]
    assert list(pickle.loads(pickle.dumps(corpus)).documents()) == ["a", "b"]  # noqa: S301


def test_identity_is_the_content(tmp_path):
    """Equal bytes under another name have the same digest, and the name is the stem."""
    first = open_corpus(write(tmp_path, "a.txt", "a"))
    second = open_corpus(write(tmp_path, "b.txt", "a"))
    assert (first.name, second.name) == ("a", "b")
    assert first.content_digest == second.content_digest
    assert open_corpus(write(tmp_path, "c.txt", "c")).content_digest != first.content_digest


def test_relative_path_starts_from_base(tmp_path):
    """A relative path is looked up in the given folder."""
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", "a.txt", "a")
    assert read("data/a.txt", base=tmp_path) == ["a"]
    assert read("a.txt", base=tmp_path / "data") == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "", "holds no text"),
        ("a.txt", " \n\n", "holds no text"),
        ("a.txt", b"\xff", "is not UTF-8"),
        ("a.json", "[]", "holds no text"),
        ("a.json", '{"text": "a"}', "where a list"),
        ("a.json", '["a"', "is not valid JSON"),
        ("a.jsonl", "", "holds no text"),
        ("a.jsonl", '{"text": ', "line 1 of"),
        ("a.jsonl", '{"body": "a"}', "no field 'text' or 'Text' (it has 'body')"),
        ("a.jsonl", '{"text": 3}', "text is the number 3"),
        ("a.json", '[{"text": ["a"]}]', "record 0 of"),
        ("a.parquet", b"PAR1 but not really", "cannot be read as Parquet"),
        ("a.parquet", b"", "cannot be read as Parquet"),
    ],
)
def test_useless_file_is_an_error_at_once(tmp_path, name, content, said):
    """A file without a first document is refused when it is opened, with its path."""
    source = write(tmp_path, name, content)
    with pytest.raises(DatasetError) as caught:
        open_corpus(source)
    assert said in str(caught.value)
    assert source in str(caught.value)


@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.jsonl", "a.parquet"])
def test_vanished_file_is_an_error(tmp_path, name):
    """A corpus whose file is gone by the next pass says so in a sentence."""
    path = tmp_path / name
    pl.DataFrame({"text": ["a"]}).write_parquet(path)
    if name != "a.parquet":
        path.write_text('["a"]' if name == "a.json" else '"a"', encoding="utf-8")
    corpus = open_corpus(str(path))
    path.unlink()
    with pytest.raises(DatasetError, match=name):
        list(corpus.documents())


def test_later_malformed_line_is_an_error(tmp_path):
    """A broken entry further down ends the pass with its line: a corpus is not thinned silently."""
    corpus = open_corpus(write(tmp_path, "a.jsonl", '"a"\n\n{"text"\n"b"'))
    documents = corpus.documents()
    assert next(documents) == "a"
    with pytest.raises(DatasetError, match=r"line 3 of .* which cannot be used"):
        next(documents)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("none.txt", "which does not exist"),
        ("./none", "which does not exist"),
        ("folder/none.parquet", "which does not exist"),
        (".", "which is a folder"),
        ("~nobody-of-that-name/a", "home folder is unknown"),
        ("a/b/c", "neither a file"),
        ("two words", "neither a file"),
        ("", "which is a folder"),
    ],
)
def test_unknown_source_is_an_error(tmp_path, source, said):
    """What is neither a file nor a hub id is refused before anything is fetched."""
    with pytest.raises(DatasetError) as caught:
        open_corpus(source, base=tmp_path)
    assert said in str(caught.value)


def test_subset_of_a_file_is_an_error(tmp_path):
    """A file has no subsets, so asking for one is a mistake."""
    with pytest.raises(DatasetError, match="only hub data sets have subsets"):
        open_corpus(write(tmp_path, "a.txt", "a"), subset="raw")


def test_hub_needs_its_package(monkeypatch):
    """Without the optional package the message says what to install."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DatasetError, match="pip install datasets"):
        open_corpus("Salesforce/wikitext", subset="wikitext-2-raw-v1")


class FakeBuilder:
    """Stands in for the third-party builder: one split, fetched once it is asked for."""

    def __init__(self, revision, rows):
        self.hash = revision
        split = types.SimpleNamespace(num_examples=len(rows))
        self.info = types.SimpleNamespace(splits={"train": split})
        self.rows = rows
        self.n_fetched = 0

    def download_and_prepare(self):
        """Count the fetch."""
        self.n_fetched += 1

    def as_dataset(self, split):
        """Return the rows, or refuse as the package does."""
        if split == "train[bad]":
            raise ValueError("Unrecognized instruction format")
        return self.rows


@pytest.fixture
def hub(monkeypatch):
    """Install a stand-in for the ``datasets`` package; returns a function that sets its builder."""

    def install(revision="abc", rows=({"text": ""}, {"text": " a"}, {"text": None}, {"text": "b"})):
        builder = FakeBuilder(revision, rows)

        def load_dataset_builder(source, name=None):
            if name == "missing":
                raise ValueError("BuilderConfig 'missing' not found.\nAvailable: ...")
            return builder

        module = types.SimpleNamespace(load_dataset_builder=load_dataset_builder)
        monkeypatch.setitem(sys.modules, "datasets", module)
        return builder

    return install


def test_hub_corpus_is_fetched_when_read(hub):
    """Opening tells name, size and identity without a fetch; reading skips blank rows."""
    builder = hub()
    corpus = open_corpus("Salesforce/wikitext", subset="wikitext-2-raw-v1")
    assert (corpus.name, corpus.n_documents) == ("Salesforce/wikitext/wikitext-2-raw-v1", 4)
    assert builder.n_fetched == 0
    assert list(corpus.documents()) == list(corpus.documents()) == [" a", "b"]


def test_hub_identity_is_id_and_revision(hub):
    """The digest follows revision, id, subset, split and field, and is the same each time."""
    hub("abc")
    options = [{}, {"subset": "s"}, {"split": "train[:1%]"}, {"text_field": "body"}]
    digests = [open_corpus("a/b", **option).content_digest for option in options]
    digests.append(open_corpus("a/c").content_digest)
    assert open_corpus("a/b").content_digest == digests[0]
    hub("def")
    digests.append(open_corpus("a/b").content_digest)
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": "test"}, "split 'test' of the corpus 'a/b' was asked, which has train"),
        (
            {"subset": "missing"},
            "gave ValueError: BuilderConfig 'missing' not found. Check the name",
        ),
    ],
)
def test_hub_refusal_is_an_error(hub, options, said):
    """What the hub does not have is refused when the corpus is opened."""
    hub()
    with pytest.raises(DatasetError) as caught:
        open_corpus("a/b", **options)
    assert said in str(caught.value)


def test_hub_without_revision_is_an_error(hub):
    """A data set whose revision is unknown has no identity and is refused."""
    hub(None)
    with pytest.raises(DatasetError, match="revision cannot be told"):
        open_corpus("a/b")


def test_hub_rows_without_text_are_an_error(hub):
    """A row without the field ends the pass and names the fields it has."""
    hub(rows=({"body": "a"},))
    with pytest.raises(DatasetError, match=r"row 0 of a/b, .* \(it has 'body'\)"):
        read("a/b")


def test_hub_failure_while_fetching_is_an_error(hub):
    """A failed fetch carries the hub's own first line."""
    hub()
    with pytest.raises(DatasetError, match="gave ValueError: Unrecognized instruction"):
        read("a/b", split="train[bad]")


@pytest.mark.skipif(
    "EDITCOLLAPSE_SHARED" not in os.environ,
    reason="EDITCOLLAPSE_SHARED does not name the folder of third-party development data",
)
@pytest.mark.parametrize(
    ("name", "n_documents"), [("wikitext2_test.txt", 1320), ("tinystories_cased.txt", 1230)]
)
def test_real_corpora_are_split_at_blank_lines(name, n_documents):
    """The development corpora have their known numbers of documents."""
    source = Path(os.environ["EDITCOLLAPSE_SHARED"]) / "data" / name
    assert len(read(str(source))) == n_documents
