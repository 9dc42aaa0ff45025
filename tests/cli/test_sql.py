"""Asking for results: read-only, and every refusal is a sentence."""

import pytest

from flows.__main__ import USER_ERROR, main


@pytest.fixture
def ask(first_run, capsys):
    """Return a function that gives a command's status, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main([*arguments, "--results", str(first_run.results)])
        return status, *capsys.readouterr()

    return run


def test_query_is_answered(ask):
    """A query's answer is printed as CSV where that is asked."""
    query = "select method, count(*) as n from edits group by all order by all"
    assert ask("sql", "--csv", query) == (0, "method,n\nc_rome,8\nr_rome,8\nrome,8\n", "")


@pytest.mark.parametrize(
    "query",
    [
        "drop table edits",
        "insert into studies select * from studies",
        "update edits set method = 'x'",
        "copy edits to 'stolen.csv'",
        "from read_csv('/etc/passwd')",
        "attach 'other.duckdb'",
        "set enable_external_access = true",
        "select nothing from edits",
        "select",
    ],
)
def test_query_that_writes_or_errs_is_refused(ask, query, first_run):
    """Nothing can be written or reached by SQL; the refusal says how to find what can be asked."""
    before = (first_run.results / "results.duckdb").read_bytes()
    status, out, err = ask("sql", query)
    assert (status, out) == (USER_ERROR, "")
    assert err.startswith("error: DuckDB refuses this query")
    assert "editcollapse tables" in err
    assert "Traceback" not in err
    assert (first_run.results / "results.duckdb").read_bytes() == before


def test_tables_are_listed(ask):
    """Every table and view is listed with what it is for, and so are one's columns."""
    _, out, _ = ask("tables")
    assert "collapse_incidence" in out
    _, out, _ = ask("tables", "edits")
    assert "denominator" in out


def test_unknown_table_is_explained(ask):
    """A table that is not there is refused with the nearest names first."""
    status, out, err = ask("tables", "edit_outcome")
    assert (status, out) == (USER_ERROR, "")
    assert err.startswith("error: no table or view 'edit_outcome'. Known: edit_outcomes,")


@pytest.mark.parametrize("command", [["sql", "select 1"], ["tables"], ["rebuild"]])
def test_folder_without_results_is_explained(command, tmp_path, capsys):
    """Asking a folder that no study wrote to is a mistake, and leaves nothing there."""
    assert main([*command, "--results", str(tmp_path / "none")]) == USER_ERROR
    err = capsys.readouterr().err
    assert err.startswith("error: no")
    assert str(tmp_path / "none") in err
    assert not (tmp_path / "none").exists()


def test_plan_counts_what_is_cached(first_run, study, capsys):
    """The plan of a finished study has nothing left to run."""
    assert main(["plan", str(study), "--results", str(first_run.results)]) == 0
    out = capsys.readouterr().out
    assert "24 edits" in out
    assert "4 cached, 0 to run" in out
