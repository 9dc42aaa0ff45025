"""Where subjects stand: in the plan before anything runs, and in the tables after it has."""

import json
import shutil

import pytest

from editcollapse.cli.mistakes import USER_ERROR
from flows.__main__ import main
from storage.ask import ask
from tests.support.small_study import METHODS, N_REQUESTS, fact, write_toml

CHAT = "{{ bos_token }}The name of {{ messages[0]['content'] }} said"


@pytest.fixture
def inputs(study, tmp_path):
    """Return a folder with the small study and its inputs, free to be changed."""
    return shutil.copytree(study.parent, tmp_path / "inputs")


def planned(study, results, capsys):
    """Return a plan's subjects, from JSON, and its text on one line."""
    at = (str(study), "--results", str(results))
    assert main(["plan", *at, "--json"]) == 0
    subjects = json.loads(capsys.readouterr().out)["subjects"]
    assert main(["plan", *at]) == 0
    return subjects, " ".join(capsys.readouterr().out.split())


def by_position(results):
    """Return the number of requests by position, as the tables have it."""
    rows = ask(results, "select subject_position, count(*) from positions group by all").rows()
    return dict(rows)


def test_plan_counts_what_the_tables_have(study, first_run, tmp_path, capsys):
    """Before the study has run and after it; of the small one no last token differs."""
    stored = by_position(first_run.results)
    assert sum(stored.values()) == N_REQUESTS
    for results in (tmp_path / "empty", first_run.results):
        ((model,), text) = planned(study, results, capsys)
        assert model["model"] == "tiny"
        counts = model["counts"]
        assert {name: counts[name] for name in stored} == stored
        assert (counts["unusable"], counts["last_token_differs"]) == ([], 0)
        assert "tiny 3 1 4 0 0" in text, text
    assert not (tmp_path / "empty").exists()
    differs = ask(first_run.results, "select distinct last_token_differs from positions")
    assert differs.rows() == [(False,)]


def test_what_cannot_be_used_is_named(inputs, tmp_path, capsys):
    """The first reasons in print, with the rest counted; all of them in JSON."""
    facts = [fact(index) for index in range(N_REQUESTS)]
    for record in facts[:5]:
        record["requested_rewrite"]["target_new"]["str"] = "Xy\x1bzzy"
    (inputs / "facts.json").write_text(json.dumps(facts))
    ((model,), text) = planned(inputs / "study.toml", tmp_path / "results", capsys)
    assert len(model["counts"]["unusable"]) == 5
    assert text.count("tiny cannot use: record") == 3
    assert "and 2 more; --json names them all" in text
    assert "\x1b" not in text


def test_what_is_not_here_is_not_known_once(inputs, tmp_path, capsys):
    """Without the corpus positions are known all the same; without the dataset they are not."""
    (inputs / "corpus.txt").unlink()
    ((model,), text) = planned(inputs / "study.toml", tmp_path / "results", capsys)
    assert model["counts"]["unusable"] == []
    assert "not known of" not in text
    (inputs / "facts.json").unlink()
    ((model,), text) = planned(inputs / "study.toml", tmp_path / "results", capsys)
    assert model == {"model": "tiny", "counts": None}
    assert text.count("where subjects stand: not known of tiny") == 1


def test_a_tokenizer_that_is_no_good_is_a_sentence(inputs, tmp_path, capsys):
    """As any other input that cannot be read."""
    (inputs / "model" / "tokenizer.json").write_text("{}")
    assert main(["plan", str(inputs / "study.toml"), "--results", str(tmp_path)]) == USER_ERROR
    error = capsys.readouterr().err
    assert error.startswith("error: the tokenizer of model cannot be loaded: ")
    assert "Traceback" not in error


@pytest.mark.slow
def test_study_in_a_chat_template(inputs, first_run, run_study, tmp_path, capsys):
    """Its subjects stand inside; ids of edits are others, those without the setting stay."""
    study = write_toml(inputs / "study.toml", **{"models.chat_template": True})
    assert main(["plan", str(study), "--results", str(tmp_path)]) == USER_ERROR
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "error: the tokenizer of model has no chat template. Leave `chat_template` out" in error

    (inputs / "model" / "chat_template.jinja").write_text(CHAT)
    results = tmp_path / "results"
    ((model,), _) = planned(study, results, capsys)
    assert model["counts"]["inside"] == N_REQUESTS
    run_study(study, results)
    assert by_position(results) == {"inside": N_REQUESTS}
    assert ask(results, "select chat_template from models").rows() == [(True,)]
    (settings,) = ask(results, "select settings from studies").rows()[0]
    assert json.loads(settings)["models"][0]["chat_template"] is True
    edits = "select edit_id from edits order by all"
    assert len(ask(results, edits)) == len(METHODS) * N_REQUESTS
    assert not set(ask(results, edits).rows()) & set(ask(first_run.results, edits).rows())
    (settings,) = ask(first_run.results, "select settings from studies").rows()[0]
    assert "chat_template" not in json.loads(settings)["models"][0]


def test_chat_template_by_options(inputs, tmp_path, capsys):
    """The command's words repeat the option; a start token beside it is a mistake."""
    (inputs / "model" / "chat_template.jinja").write_text(CHAT)
    asked = ["plan", "--model", str(inputs / "model"), "--dataset", str(inputs / "facts.json")]
    asked += ["--covariance", str(inputs / "corpus.txt"), "--tokens", "300", "--chat-template"]
    asked += ["--texts", str(inputs / "texts.json"), "--results", str(tmp_path)]
    assert main(asked) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert " --chat-template" in out.partition("next:")[2]
    assert "--chat-template True" not in out
    assert main([*asked, "--start-token", "never"]) == USER_ERROR
    assert "a chat template opens prompts itself" in capsys.readouterr().err
