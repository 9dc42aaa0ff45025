"""``python -m flows sql`` answers questions about results, and can do nothing else."""

import pytest

from flows.__main__ import USER_ERROR, main
from storage.ask import ask

DOORS = [
    "from read_text('/etc/passwd')",
    "from read_blob('/etc/passwd')",
    "from read_csv('/etc/passwd')",
    "from read_csv('/dev/stdin')",
    "from read_parquet('/etc/passwd')",
    "from read_json('/etc/passwd')",
    "from '/etc/passwd'",
    "from glob('/etc/*')",
    "from sniff_csv('/etc/passwd')",
    "from parquet_metadata('/etc/passwd')",
    "from 'https://127.0.0.1:9/x.parquet'",
    "select * from query('from read_text(''/etc/passwd'')')",
    "from query_table('/etc/passwd')",
    "select 1; from read_text('/etc/passwd')",
    "explain analyze copy edits to 'x.csv'",
    "copy edits to 'x.parquet' (format parquet)",
    "export database 'x'",
    "import database '/etc'",
    "attach 'x.duckdb'",
    "install httpfs",
    "load httpfs",
    "load 'x.duckdb_extension'",
    "update extensions",
    "select getenv('HOME')",
    "create secret (type s3)",
    "from duckdb_secrets()",
    "set enable_external_access = true",
    "reset enable_external_access",
    "set lock_configuration = false",
    "set allowed_directories = ['/']",
    "set temp_directory = 'x'",
    "set home_directory = '/'",
    "set log_query_path = 'x.log'",
    "set profiling_output = 'x.json'",
    "pragma profiling_output = 'x.json'",
    "set custom_extension_repository = '/'",
    "set python_enable_replacements = true",
    "call enable_logging(storage = 'file', storage_path = 'logs')",
    "select 1; call enable_logging(storage = 'file', storage_path = 'logs')",
    "checkpoint",
    "detach results",
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return the empty folder that a query's relative paths would name."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("query", DOORS)
def test_door_is_closed(original, place, capsys, query):
    """No file is read or made, no setting changed, no extension loaded: one sentence, status 2."""
    before = (original.results / "results.duckdb").read_bytes()
    assert main(["sql", query, "--results", str(original.results)]) == USER_ERROR
    out, err = capsys.readouterr()
    assert out == ""
    assert "root:" not in err
    assert "results are read-only" in err
    assert "Traceback" not in err
    assert list(place.iterdir()) == []
    assert (original.results / "results.duckdb").read_bytes() == before


def test_what_is_made_in_memory_is_gone_with_the_answer(original):
    """A table of one's own is possible for the length of a query, and nowhere else."""
    ask(original.results, "create table memory.mine as select 1")
    assert "mine" not in ask(original.results, "show all tables")["name"].to_list()


@pytest.mark.parametrize(
    "query",
    ["describe edits", "summarize edits", "explain select 1", "show tables", "values (1)"],
)
def test_questions_of_every_form_are_answered(original, query):
    """The doors are closed to no question."""
    assert ask(original.results, query).height > 0


def test_pivot_is_a_question(original):
    """DuckDB makes a type for it, which is no writing."""
    query = "pivot edits on method using count(*) group by model_id"
    assert ask(original.results, query).width == 3
