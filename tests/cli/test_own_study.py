"""``init``, and the options that stand for a study file: one study either way, or one sentence."""

import json
import re

import pytest

from editcollapse.config.study_file import read_study
from flows.__main__ import USER_ERROR, main
from storage.ask import ask
from tests.support.small_study import N_REQUESTS, write_model, write_study

_ONE = ("--prompt", "{} likes the colour", "--subject", "Oslo", "--target", "blue")


@pytest.fixture
def own(study, monkeypatch):
    """Return the options that name the small study's inputs."""
    monkeypatch.chdir(study.parent)
    covariance = ("--covariance", "corpus.txt", "--tokens", "400")
    return ("--model", "model", "--dataset", "facts.json", *covariance, "--texts", "texts.json")


@pytest.fixture
def init(study, monkeypatch, tmp_path):
    """Return a function that writes a study file of the small study's inputs."""
    monkeypatch.chdir(study.parent)

    def run(*more):
        given = ("model", "facts.json", "--covariance", "corpus.txt", "--tokens", "400")
        path = tmp_path / "mine.toml"
        return main(["init", *given, "--texts", "texts.json", "-o", str(path), *more]), path

    return run


def test_init_says_what_it_found_and_what_is_next(init, capsys):
    """The inputs are named, the file is there, and the commands to go on with name it."""
    status, path = init()
    assert status == 0
    out = capsys.readouterr().out
    assert f"{N_REQUESTS} usable requests, counterfact" in out
    assert "400 tokens of corpus.txt" in out
    assert all(f"{command} {path}" in out for command in ("plan", "forecast", "run"))
    assert read_study(path).name == "model-facts"


def test_init_replaces_nothing_unless_told(init, capsys):
    """A file that is there stays; --force replaces it."""
    _, path = init()
    path.write_text("mine")
    capsys.readouterr()
    assert init()[0] == USER_ERROR
    assert path.read_text() == "mine"
    assert "is there already. Give --force" in capsys.readouterr().err
    assert init("--force", "--json")[0] == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(path)
    assert path.read_text() != "mine"


def without_free_memory(printed):
    """Return lines without the command to follow, and without what else changes in a second."""
    lines = [line for line in printed.splitlines() if not line.startswith("next:")]
    return re.sub(r"[\d.]+\s+GiB\s+free", "", " ".join(" ".join(lines).split()))


def test_plan_is_the_same_by_file_and_by_options(init, own, tmp_path, capsys):
    """The study has one id, and the plan says what C and perplexity are measured on."""
    _, path = init("--limit", "3")
    capsys.readouterr()
    more = ["--results", str(tmp_path / "results")]
    assert main(["plan", str(path), *more]) == 0
    by_file = capsys.readouterr().out
    assert main(["plan", *own, "--limit", "3", *more]) == 0
    by_options = capsys.readouterr().out
    assert without_free_memory(by_options) == without_free_memory(by_file)
    following = by_options.splitlines()[-1].split()
    assert "run" in following
    assert {*own, "--limit", "3"} <= set(following)
    said = " ".join(by_file.split())
    assert "400 tokens of corpus.txt" in said
    assert "perplexity on 3 texts of texts" in said


@pytest.mark.slow
@pytest.mark.usefixtures("backend")
def test_forecast_by_options_is_cached_for_the_file(tmp_path, monkeypatch):
    """A forecast by options leaves rows under the study's ids, which the file's forecast finds."""
    from flows.observe import environment

    inputs = write_study(tmp_path / "inputs").parent
    write_model(inputs / "model", seed=1)  # not the model that other tests hold in this process
    monkeypatch.chdir(inputs)
    path = tmp_path / "mine.toml"
    corpus = ("--covariance", "corpus.txt", "--tokens", "400", "--texts", "texts.json")
    own = ("--model", "model", "--dataset", "facts.json", *corpus)
    assert main(["init", "model", "facts.json", *corpus, "--limit", "2", "-o", str(path)]) == 0
    monkeypatch.setattr(environment, "prepare", lambda *_: "the tests' server")
    results = tmp_path / "results"
    assert main(["forecast", *own, "--limit", "2", "--results", str(results)]) == 0
    found = ask(results, "from forecasts order by edit_id, method")
    assert found["edit_id"].n_unique() == found.height > 0
    before = (results / "results.duckdb").stat().st_mtime_ns
    assert main(["forecast", str(path), "--results", str(results)]) == 0
    assert (results / "results.duckdb").stat().st_mtime_ns == before


@pytest.mark.parametrize("command", ["run", "plan", "covariance", "anatomy", "forecast", "sweep"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--model"),
        (["--model", "model"], "not given. Name a study file"),
        (["--dataset", "facts.json"], "--model not given"),
        (["study.toml", "--model", "model"], "a study file and --model were given"),
        (["study.toml", "--limit", "3"], "a study file and --limit were given"),
        (["--model", "m", "--dataset", "d", "--covariance", "results"], "is for one edit"),
        (["--model", "./no", "--dataset", "facts.json"], "no model folder ./no"),
        (["--model", "model", "--dataset", "no.json"], "no.json"),
    ],
)
def test_neither_both_or_half_is_a_sentence(command, arguments, said, study, monkeypatch, capsys):
    """What is named twice, by half or not at all is said, with status 2 and no server."""
    monkeypatch.chdir(study.parent)
    assert main([command, *arguments]) == USER_ERROR
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset", "facts.json", "--model", "model", *_ONE], "--dataset and --prompt were"),
        (["study.toml", *_ONE], "a study file and --prompt were given"),
        (["--model", "model", *_ONE, "--limit", "3"], "--limit is for the edits of a --dataset"),
        (["--model", "model", *_ONE[:4]], "--target not given"),
    ],
)
def test_one_edit_and_a_dataset_are_not_mixed(arguments, said, study, monkeypatch, capsys):
    """A forecast is of one edit, or of a dataset's."""
    monkeypatch.chdir(study.parent)
    assert main(["forecast", *arguments]) == USER_ERROR
    assert said in capsys.readouterr().err
