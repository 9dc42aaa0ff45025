"""Asking: answers as frames, mistakes as one sentence, nothing written."""

import polars as pl
import pytest

from editcollapse.errors import ResultsError
from storage.ask import ask, describe_tables, incidence


@pytest.fixture(scope="module")
def published(tmp_path_factory, folder_at):
    """Return a results folder with a small study; tests only read it."""
    folder = folder_at(tmp_path_factory.mktemp("published"))
    folder.add_study()
    return folder


def test_ask_returns_a_frame(published):
    """The answer of a query is a Polars frame."""
    frame = ask(published.results, "select method, perplexity from edit_outcomes order by method")
    assert frame.rows() == [("c_rome", 5.0), ("rome", 5.0)]


def test_ask_without_results_says_how_to_get_some(tmp_path):
    """Before the first study there is no table to ask, and the message says so."""
    with pytest.raises(
        ResultsError, match=r"no results in .* yet: run a study first: editcollapse run"
    ):
        ask(tmp_path, "select 1")


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("selct 1", r'syntax error at or near "selct"'),
        ("select nothing from edits", r'Referenced column "nothing" not found'),
        ("from edit", r"Table with name edit does not exist"),
        ("select method::int from edits", r"Could not convert string"),
        ("select error('boom') from edits", "boom"),
    ],
)
def test_mistakes_in_sql_are_told_in_duckdbs_words(published, sql, words):
    """A user's mistake is a ResultsError of two lines at most."""
    with pytest.raises(ResultsError, match=words) as caught:
        ask(published.results, sql)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize(
    "sql",
    [
        "insert into models select * from models",
        "delete from edits",
        "update edits set layer = 3",
        "drop table edits",
        "drop view collapse_incidence",
        "create table mine (a int)",
        "create or replace view edit_outcomes as select 1",
        "copy edits to 'edits.csv'",
        "attach 'other.duckdb'",
        "from read_csv('/etc/passwd')",
        "set enable_external_access = true",
        "install httpfs",
    ],
)
def test_ask_cannot_write_or_reach_other_files(published, sql, tmp_path, monkeypatch):
    """Statements that write, or that reach beyond the snapshot, are refused."""
    monkeypatch.chdir(tmp_path)
    before = (published.results / "results.duckdb").read_bytes()
    with pytest.raises(ResultsError, match="DuckDB refuses this query"):
        ask(published.results, sql)
    assert (published.results / "results.duckdb").read_bytes() == before
    assert list(tmp_path.iterdir()) == []


def test_ask_does_not_see_python_variables(published):
    """A frame of the calling code is not a table."""
    secret = pl.DataFrame({"a": [1]})
    with pytest.raises(ResultsError, match="secret does not exist"):
        ask(published.results, "from secret")
    assert secret.height == 1


def test_sql_without_answer_gives_an_empty_frame(published):
    """A table of one's own, for the statements that follow."""
    assert ask(published.results, "create temp table x as select 1").is_empty()


def test_type_without_place_in_a_frame_is_explained(published):
    """A type that Polars does not have gets advice, not a traceback."""
    with pytest.raises(ResultsError, match="Cast it in the query"):
        ask(published.results, "select interval 3 days")


def test_describe_tables_has_everything_with_comments(folder):
    """Tables, views and macros are listed with columns, types, comments and row counts."""
    folder.add_study(perplexities=(5.0, 6.0, 7.0))
    frame = describe_tables(folder.results)
    assert frame.columns == ["kind", "name", "column", "type", "comment", "n_rows"]
    assert set(frame["kind"]) == {"table", "view", "macro"}
    assert frame["comment"].null_count() == 0
    edits = frame.filter(kind="table", name="edits")
    assert edits.row(0)[2:4] == (None, None)
    assert edits["n_rows"].to_list()[:2] == [6, None]
    assert "VARCHAR" in edits["type"].to_list()
    arguments = frame.filter(kind="macro", name="collapse_incidence")["type"].item()
    assert arguments == "threshold, ratio, measure, kinds"


def test_incidence_of_one_study(folder, make_row):
    """The named query gives all studies, or the one that was asked for."""
    folder.add_study(methods=("rome",), perplexities=(5.0, 5e5))
    folder.write("studies", make_row("studies", study_id="b", name="other"))
    folder.write("study_edits", make_row("study_edits", study_id="b", edit_id="rome-request-1"))
    folder.publish()
    assert incidence(folder.results)["study"].to_list() == ["other", "small"]
    one = incidence(folder.results, "b")
    assert one.select("study", "n_edits", "n_collapsed").rows() == [("other", 1, 1)]
    assert incidence(folder.results, "none").is_empty()
