"""The command line itself: its help, its mistakes, JSON, the collapse rule, the words of flags."""

import json
import re
import subprocess
import sys
import typing

import pytest
from typer.main import get_command

from editcollapse.cli.mistakes import STOPPED
from editcollapse.config.spec import ActsAt, DtypeName, EvaluationSpec, ModelSpec, Policy
from editcollapse.config.study_file import read_study
from editcollapse.errors import MomentError, StudyError
from editcollapse.models.files import locate_model
from editcollapse.rows.collapse_rule import CollapseRule
from flows.__main__ import USER_ERROR, main
from flows.cli import edit, options
from flows.cli.main import app
from tests.support.flow_runs import REPOSITORY

_COMMANDS = get_command(app).commands
_OSLO = ("--prompt", "{} likes the colour", "--subject", "Oslo", "--target", "blue")


def _examples(name):
    """Return the calls that a command's help shows, as lists of words."""
    import shlex

    text = (_COMMANDS[name].epilog or "").replace("\\[", "[").replace("\\\n", " ")
    called = re.findall(r"^(?:python -m flows|editcollapse) (.*)", text, re.MULTILINE)
    return [shlex.split(line.partition(" > ")[0]) for line in called]


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_help_shows_calls_that_are_understood(name, capsys, monkeypatch):
    """Each command has a sentence and examples, and the parser takes each example."""
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: python -m flows {name}" in out
    assert "examples:" in out.casefold()
    calls = _examples(name)
    assert calls
    for called, *rest in calls:
        assert called == name
        assert _COMMANDS[name].make_context(name, rest).params


def test_help_lists_all_commands(capsys):
    """The list has every command, under -h as well."""
    assert main(["-h"]) == 0
    out = capsys.readouterr().out
    assert all(f"│ {name} " in out for name in _COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rnu"], "error: no command 'rnu'. Known: run, "),
        ([], "error: Missing command. Try python -m flows --help."),
        (["--reslts"], "No such option: --reslts"),
        (["run"], "error: no study: --model and --dataset not given. Name a study file, or"),
        (["sql", "x", "--reslts", "y"], "(Possible options: --results)"),
        (["edit", *_OSLO], "Missing option '--model'"),
        (["check-model", "m", "--dtype", "f"], "'f' is not one of 'float32', 'float64'"),
        (["deploy", "--on", "moon"], "'moon' is not one of 'process', 'docker', 'kubernetes'"),
        (["plan", "a.toml", "b.toml"], "unexpected extra argument"),
        (["calibrate", "--ratio", "x"], "Invalid value for '--ratio'"),
        (
            ["calibrate", "--ratio", "nan"],
            "--ratio nan: it has to be a number above 0, or inf",
        ),
        (["calibrate", "--threshold", "0"], "error: --threshold 0: it has to be a number"),
        (["sql", "x", "--csv", "--json"], "error: --csv and --json were given"),
    ],
)
def test_mistake_on_the_command_line_is_a_sentence(arguments, sentence, capsys):
    """Exit status 2, one sentence on stderr, nothing on stdout and no traceback."""
    assert main(arguments) == USER_ERROR
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert sentence in err


def test_interrupt_is_a_line(monkeypatch, capsys):
    """Ctrl-C says that the same command goes on, and has the status of a stopped command."""
    from storage import ask

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ask, "ask_each", stop)
    assert main(["sql", "select 1"]) == STOPPED == 130
    assert "stopped: the same command goes on from here" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["edit"], ["--version"]])
def test_help_needs_no_heavy_package(arguments):
    """Help, mistakes and shell completion come without torch, Prefect, DuckDB and Polars."""
    code = (
        "import sys; from flows.__main__ import main; main(sys.argv[1:]); "
        "print({'torch', 'prefect', 'duckdb', 'polars'} & set(sys.modules), file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=True,
    )
    assert found.stderr.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--version"], "editcollapse 0."),
        (["--help"], "Usage: editcollapse [OPTIONS]"),
        (["--help"], "--install-completion"),
        (["run", "--help"], "editcollapse run studies/demo.toml"),
        (["--show-completion", "bash"], "_EDITCOLLAPSE_COMPLETE=complete_bash"),
    ],
)
def test_command_is_called_by_the_name_that_was_typed(arguments, words, tmp_path):
    """Installed as ``editcollapse`` it has that name in usage, examples and shell completion."""
    script = tmp_path / "editcollapse"
    script.write_text("from flows.cli.main import run\nrun()\n")
    import os

    found = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "src")]),
            "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
        },
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert words in found.stdout


def test_choices_are_those_of_the_study_file():
    """What the options allow is what the fields allow that they become."""
    choices = typing.get_args
    assert choices(edit.Policy) == choices(Policy)
    assert choices(edit.ActsAt) == choices(ActsAt)
    assert choices(options.DType) == choices(DtypeName)
    start = ModelSpec.model_fields["start_token"].annotation
    assert choices(options.StartToken) == choices(start)


def test_default_rule_in_the_help_is_the_rule(capsys, monkeypatch):
    """The numbers that the help names are the default's."""
    rule = CollapseRule()
    for option, limit in (
        (options.ThresholdOption, rule.threshold),
        (options.RatioOption, rule.ratio),
    ):
        assert f"or {limit:g})" in typing.get_args(option)[1].help
    assert f"or {rule.measure})" in typing.get_args(options.MeasureOption)[1].help


@pytest.fixture
def ask_json(results, backend, monkeypatch, capsys):
    """Return a function that gives a command's JSON, the only thing on standard output."""
    from flows.observe import environment

    monkeypatch.setattr(environment, "prepare", lambda _: "the tests' server")

    def run(*arguments):
        assert main([*map(str, arguments), "--json", "--results", str(results)]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_answers_are_json(ask_json):
    """Rows are objects; what JSON has no number for is a text, and null stays null."""
    query = "select 'x' as a, 'inf'::float as b, 'nan'::double as c, null as d, date '2026-01-02' e"
    row = {"a": "x", "b": "Infinity", "c": "NaN", "d": None, "e": "2026-01-02"}
    assert ask_json("sql", query) == [row]
    assert ask_json("sql", "select 1 as a where false") == []
    query = "select '\\xAA\\xFF'::blob as a, sum(range) as b, 0.5::decimal(9, 2) as c from range(9)"
    assert ask_json("sql", query) == [{"a": "qv8=", "b": 36, "c": 0.5}]
    names = {each["name"] for each in ask_json("tables")}
    assert {"edits", "collapse_incidence"} <= names
    assert {each["column"] for each in ask_json("tables", "edits")} >= {"edit_id", "denominator"}


def test_plan_and_tidying_are_json(ask_json, study, tmp_path):
    """The plan has the counts of its table; a study without its inputs says what is missing."""
    found = ask_json("plan", study)
    assert (found["n_edits"], found["missing"]) == (24, [])
    (model,) = found["models"]
    counts = {"kind": "edit batches", "n_units": 4, "n_cached": 4, "seconds": 0.0}
    assert counts in model["units"]
    assert model["devices"][0]["forwards"][0]["n_bytes"] > 0
    text = study.read_text().replace('path = "', 'path = "absent-')
    absent = tmp_path / "absent.toml"
    absent.write_text(text)
    found = ask_json("plan", absent)
    assert "dataset" in {each["what"] for each in found["missing"]}
    assert found["models"][0]["spec"]["name"] == "tiny"
    found = ask_json("gc")
    assert (found["removed"], found["files"]) == (False, [])


def test_run_is_json_and_judges_by_the_rule_that_was_given(
    ask_json, study, results, first_run, capsys
):
    """Counts follow the options; the table names the rule that it counts by."""
    found = ask_json("run", study)
    assert found["study_id"] == first_run.study_id
    assert found["rule"] == {"threshold": 1000.0, "ratio": 10.0, "measure": "mean"}
    before = sum(row["n_collapsed"] for row in found["incidence"])
    found = ask_json("run", study, "--ratio", "1e-9", "--threshold", "2e6")
    assert found["rule"] == {"threshold": 2e6, "ratio": 1e-9, "measure": "mean"}
    rows = found["incidence"]
    assert sum(row["n_collapsed"] for row in rows) == sum(row["n_edits"] for row in rows) > before
    assert main(["run", str(study), "--ratio", "7", "--results", str(results)]) == 0
    out = capsys.readouterr().out
    assert "collapse incidence (perplexity above 1000, or above 7 x unedited)" in out


def test_fields_are_said_as_flags():
    """A message that names fields of a study file names the options where those made the study."""
    text = "C is singular. Raise `covariance.n_tokens` or set `covariance.damping`; `batch_size`."
    with pytest.raises(MomentError) as found, options.said_with_flags():
        raise MomentError(text)
    assert str(found.value) == "C is singular. Raise --tokens or set --damping; `batch_size`."
    with (
        pytest.raises(StudyError, match=r"^layer 9: Correct --layer\.$"),
        options.said_with_flags(),
    ):
        raise StudyError("layer 9: Correct `layer` in the study file.")
    with pytest.raises(StudyError, match=r"^--texts '': String"), options.said_with_flags():
        EvaluationSpec(texts="")


@pytest.mark.parametrize("command", ["edit", "forecast", "sweep"])
def test_too_few_tokens_are_told_before_anything_is_loaded(
    command, study, tmp_path, monkeypatch, capsys
):
    """A C that has to be singular is refused by its flag, with no weight loaded, no server."""
    from editcollapse.models import loading
    from flows.observe import environment

    def loaded(*_):
        raise AssertionError("nothing may be loaded")

    monkeypatch.setattr(loading, "load_model", loaded)
    monkeypatch.setattr(environment, "prepare", loaded)
    model = read_study(study).models[0].source
    width = locate_model(model, None).widths.d_key
    results = tmp_path / "no"
    asked = [command, "--model", model, *_OSLO, "--covariance", str(study.parent / "corpus.txt")]
    more = ["--tokens", str(width - 1), "--results", str(results)]
    assert main([*asked, *more]) == USER_ERROR
    err = capsys.readouterr().err
    assert err.startswith(f"error: --tokens {width - 1}: keys of this model have {width} entries")
    assert f"Give {width} or more, or a --damping" in err
    assert not results.exists()


def test_singular_covariance_is_told_by_its_flags(study, tmp_path, capsys):
    """Where keys turn out to be dependent only once C is measured, the flags are named as well."""
    corpus = tmp_path / "same.txt"
    corpus.write_text("Oslo likes blue")
    model = read_study(study).models[0].source
    asked = ["forecast", "--model", model, *_OSLO, "--covariance", str(corpus), "--layer", "0"]
    assert main([*asked, "--results", str(tmp_path / "no")]) == USER_ERROR
    err = capsys.readouterr().err
    assert "is singular. It was measured on" in err
    assert "give more (--tokens), or a --damping" in err
    assert "`" not in err
