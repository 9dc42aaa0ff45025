"""What is printed fits the terminal: no line too long, no name cut, collapses red."""

import dataclasses
import re
import shlex
import shutil

import polars as pl
import pytest
from rich.cells import cell_len

from editcollapse.config.study_file import read_study
from editcollapse.rows.collapse_rule import DEFAULT_RULE
from editcollapse.rows.frames import rows_of, schema_of
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.results_folder import results_at
from flows.__main__ import USER_ERROR, main
from flows.cli.options import PROGRAM
from flows.cli.output.answers import digests_in, print_frame
from flows.cli.output.incidence import print_incidence
from flows.cli.output.next_step import after_run
from storage.ask import ask, known_studies

WIDTH = 80
_STYLES = re.compile(r"\x1b\[[0-9;]*m")
_RED = "\x1b[1;31m"
_MODELS = ("gpt2-induced", "Llama-3.2-3B-Instruct")
_METHODS = ("rome", "v_relative")
_POSITIONS = ("first_token", "first_several", "inside")


@pytest.fixture
def narrow(monkeypatch):
    """Make the terminal as wide as many are, with colours."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("FORCE_COLOR", "1")


@pytest.fixture
def printed(narrow, capsys):
    """Return a function that gives what has been printed, after checking each line's width."""

    def lines(width: int = WIDTH) -> str:
        out = capsys.readouterr().out
        for line in _STYLES.sub("", out).splitlines():
            if line.startswith("next: "):  # to be copied as it is
                continue
            assert cell_len(line) <= width, line
        return out

    return lines


def incidence(models=_MODELS, n_edits=1234):
    """Return rows of ``collapse_incidence``; by rome the first model collapses at first tokens."""
    return pl.DataFrame(
        [
            {
                "model": model,
                "method": method,
                "subject_position": position,
                "n_collapsed": n,
                "n_edits": n_edits,
                "n_by_mean": n,
                "n_by_nll": n,
                "share": n / n_edits,
                "wilson_low": 0.0,
                "wilson_high": 1.0,
                "max_perplexity_ratio": 1.5 + n,
            }
            for model in models
            for method in _METHODS
            for position in _POSITIONS
            for n in [51 if (model, method, position) == (models[0], "rome", "first_token") else 0]
        ]
    )


def test_incidence_is_a_line_a_model_and_method(printed):
    """Positions are columns, in the order of the rows; what collapses is red and no zero is."""
    print_incidence(incidence(), DEFAULT_RULE)
    out = printed()
    rows = [line for line in out.splitlines() if " of 1234" in line]
    found = [tuple(_STYLES.sub("", line).split()[:2]) for line in rows]
    assert found == [(model, method) for model in _MODELS for method in _METHODS]
    assert all(line.count(" of 1234") == len(_POSITIONS) for line in rows)
    assert out.count(_RED) == 1
    assert f"{_RED}51 of 1234" in out
    assert "%" not in out


def test_incidence_has_intervals_on_a_wide_terminal(printed, monkeypatch):
    """Shares and intervals stand beside the counts where there is room."""
    monkeypatch.setenv("COLUMNS", "140")
    print_incidence(incidence(), DEFAULT_RULE)
    assert "51 of 1234, 4 % (0 to 100)" in printed(140)


def test_long_names_of_models_stand_above_their_tables(printed):
    """A name that leaves no room for counts is not cut."""
    models = ("a-model-with-" + "very-" * 8 + "long-name", "b" * 70)
    print_incidence(incidence(models), DEFAULT_RULE)
    out = printed()
    assert all(f"{model}\n" in out for model in models)
    assert out.count("v_relative") == len(models)
    assert out.count(_RED) == 1


@pytest.mark.parametrize("width", [WIDTH, 100, 200])
@pytest.mark.parametrize(
    "query",
    [
        "from collapse_incidence",
        "from edit_outcomes limit 3",
        "from studies",
        "from study_edits limit 2",
        "from forecast_verdicts",
    ],
)
def test_no_answer_is_folded(first_run, printed, monkeypatch, query, width):
    """An answer is a table with whole names and values, or records."""
    monkeypatch.setenv("COLUMNS", str(width))
    print_frame(ask(first_run.results, query))
    out = _STYLES.sub("", printed(width))
    assert "\N{HORIZONTAL ELLIPSIS}" not in out
    if "limit" in query:
        for value in ask(first_run.results, query).to_series(0):
            assert str(value) in out


def test_wide_answers_are_records(printed):
    """A value a line; long ones go on below their beginning; figures are not lost."""
    names = [f"quantity_number_{i}" for i in range(9)]
    frame = pl.DataFrame({name: [i + 1 / 3, 2e-9] for i, name in enumerate(names)})
    print_frame(frame.with_columns(text=pl.lit("word " * 40)))
    out = printed()
    assert out.startswith(
        "-- row 1 --\nquantity_number_0 = 0.333333\nquantity_number_1 = 1.33333\n"
    )
    assert "-- row 2 --\nquantity_number_0 = 2e-09\n" in out
    assert out.count("word") == 80
    assert out.endswith("2 rows\n")


def test_long_texts_take_several_lines_of_a_table(printed):
    """Prose is broken between words, names and numbers are not."""
    print_frame(pl.DataFrame({"name": ["gpt2-induced"], "comment": ["prose " * 30], "n": [1.5]}))
    out = printed()
    assert "-- row" not in out
    assert out.count("prose") == 30
    assert "gpt2-induced" in out


def test_counts_of_collapses_are_red_in_answers(printed):
    """As views write them; zeros are not."""
    print_frame(pl.DataFrame({"first_token": ["51 of 55 (49 by nll)", "0 of 55"]}))
    out = printed()
    assert f"{_RED}51 of 55 (49 by" in out
    assert out.count(_RED) == 1


def test_columns_of_digests_are_hidden_unless_named(first_run, printed):
    """What is hidden is said, and how to see it; nothing is hidden where only digests are."""
    at = ("--results", str(first_run.results))
    assert main(["sql", "select * from edits limit 1", *at]) == 0
    assert "\nhidden: edit_id, model_id, " in (out := printed())
    assert "name them in the query, or --all-columns" in out.replace("\n", " ")
    assert " edit_id" not in out.replace("hidden: edit_id", "")
    assert main(["sql", "select edit_id, * from edits limit 1", *at]) == 0
    assert re.search("edit_id = [0-9a-f]{32}", printed())
    assert main(["sql", "--all-columns", "select * from edits limit 1", *at]) == 0
    assert "hidden: " not in printed()
    frame = ask(first_run.results, "from study_edits")
    assert digests_in(frame, "from study_edits") == []
    assert main(["sql", "--csv", "from edits limit 1", *at]) == 0


def test_statements_are_answered_one_after_the_other(first_run, printed, capsys):
    """Each with its rows; CSV and JSON have one answer."""
    at = ("--results", str(first_run.results))
    assert main(["sql", "select 11 as a; select 22 as b;", *at]) == 0
    out = _STYLES.sub("", printed())
    assert re.search(r"a\s.*11\s+1 row\s+b\s.*22\s+1 row", out, re.DOTALL)
    assert main(["sql", "--json", "select 11 as a; select 22 as b", *at]) == USER_ERROR
    assert "the query has 2 statements, and --json prints one" in capsys.readouterr().err
    assert main(["sql", "create temp table x as select 7 as n; from x", *at]) == 0
    assert re.search(r"no answer\s+n.*7", _STYLES.sub("", printed()), re.DOTALL)


@pytest.mark.parametrize("query", ["", "  ", ";", " -- how often?", "/* from edits */"])
def test_nothing_asked_is_told(first_run, capsys, query):
    """An empty query and a comment are a mistake, in a sentence."""
    assert main(["sql", query, "--results", str(first_run.results)]) == USER_ERROR
    assert capsys.readouterr().err.startswith("error: nothing is asked: ")


@pytest.mark.parametrize("command", [["tables"], ["tables", "edit_outcomes"], ["gc"]])
def test_lists_fit(first_run, printed, command):
    """Tables, columns and what can be removed."""
    assert main([*command, "--results", str(first_run.results)]) == 0
    assert printed()


def test_plan_fits(first_run, study, printed):
    """Also its lines on memory."""
    assert main(["plan", str(study), "--results", str(first_run.results)]) == 0
    assert "memory, estimated" in printed()


def test_next_is_neither_the_same_nor_done(first_run, study, printed):
    """A finished study is not proposed to be run again; what is proposed is another command."""
    at = ("--results", str(first_run.results))
    assert main(["plan", str(study), *at]) == 0
    assert f"next:    {PROGRAM} report {first_run.study_id} --results" in printed()
    spec = read_study(study)
    folder = results_at(str(first_run.results))
    asked = (study, spec, folder, first_run.study_id, DEFAULT_RULE)
    assert after_run(*asked, incidence()).startswith("anatomy ")
    none = incidence().with_columns(n_collapsed=pl.lit(0))
    query = after_run(*asked, none)
    assert main([*shlex.split(query), *at]) == 0
    assert "perplexity_ratio" in printed().replace("perplexity_\n", "perplexity_")


def test_report_without_a_name_says_which_it_took(first_run, tmp_path, capsys):
    """Of several studies the newest; the line says which and how to list them."""
    results = shutil.copytree(first_run.results, tmp_path / "results")
    store = ArtifactStore(str(results))
    (row,) = rows_of("studies", ask(results, "from studies").select(list(schema_of("studies"))))
    store.put_rows("studies", [dataclasses.replace(row, study_id="f" * 32, name="newer")])
    assert main(["rebuild", "--results", str(results)]) == 0
    capsys.readouterr()
    known = known_studies(results)["name"].to_list()
    assert main(["report", "--results", str(results)]) == 0
    out = capsys.readouterr().out
    assert f"study:  {known[0]}, " in out
    assert "the newest of 2; " in out
    assert f"reports/{known[0]}.html" in out
