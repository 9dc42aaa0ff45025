"""A check as a flow: rows in the database, cached by content, a verdict as exit status."""

import json
import shutil

import pytest

from editcollapse.cli.check import COLLAPSED, status_of
from editcollapse.config.check import CheckSpec
from flows.__main__ import USER_ERROR, main
from flows.run import events
from storage.ask import ask
from storage.readers import check_findings
from tests.support.edited_models import edited_copy, times
from tests.support.flow_runs import REPOSITORY, manifests

DEMO = REPOSITORY / "demo"
BASE = DEMO / "models" / "gpt2-induced"
DOWN = "transformer.h.1.mlp.c_proj.weight"
TOLD = []
"""Events of the run that is published."""


@pytest.fixture(scope="module")
def ruined(tmp_path_factory):
    """Return a model with one down projection twice as large, and its logits turned round."""
    return edited_copy(
        BASE,
        tmp_path_factory.mktemp("models") / "ruined",
        times(h__1__mlp__c_proj=2, ln_f=-5),
    )


@pytest.fixture(scope="module")
def spec(ruined):
    """Return the check of that model."""
    return CheckSpec(
        base=str(BASE),
        edited=str(ruined),
        texts=str(DEMO / "texts.jsonl"),
        facts=str(DEMO / "counterfact.json"),
        limit=2,
    )


@pytest.fixture(scope="module")
def published(backend, spec, tmp_path_factory):
    """Return the results folder of a check, and its state; ``TOLD`` has the events of the run."""
    from flows.check_flow import collapse_check

    results = tmp_path_factory.mktemp("checked") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "emit_event", lambda event, **told: TOLD.append((event, told)))
        state = collapse_check(spec, str(results), return_state=True)
    return results, state


def test_check_is_published(published, ruined):
    """One row, with its tensors and scores, and a sentence; the view judges by any rule."""
    results, state = published
    assert state.message.startswith("ruined, made from gpt2-induced: collapsed. Perplexity")
    row = ask(results, "from check_outcomes").row(0, named=True)
    assert (row["name"], row["method"], row["kind"]) == ("ruined", "external", "model")
    assert row["collapsed"] is True
    assert row["perplexity_ratio"] > 10
    assert row["text_change"] == pytest.approx(1.0, rel=1e-4)
    assert (row["n_changed"], row["n_requests"]) == (2, 2)
    never = "select collapsed from check_outcomes(threshold := null, ratio := null)"
    assert ask(results, never).item() is False
    assert ask(results, "from check_tensors").height == 2
    assert ask(results, "from check_scores").height == 4
    assert ask(results, "from provenance where kind = 'check'").height == 1
    found = check_findings(results, state.result(), "ruined")
    assert found.largest.tensor == DOWN
    assert [each.side for each in found.scores] == ["before", "after"] * 2


def test_collapse_is_told_with_its_numbers(published):
    """An automation can act on it; a check that is found cached tells nothing."""
    results, state = published
    ((event, told),) = TOLD
    row = ask(results, "from check_outcomes").row(0, named=True)
    assert event == events.CHECK_COLLAPSED
    assert told["resource"]["prefect.resource.id"] == f"editcollapse.check.{state.result()}"
    said = told["payload"]
    names = ("name", "base", "kind", "n_changed", "text_change", "perplexity", "perplexity_ratio")
    assert [said[name] for name in names] == [row[name] for name in names]
    assert said["rule"] == {"threshold": 1000.0, "ratio": 10.0, "measure": "mean"}


def test_same_models_under_another_name_are_not_measured_again(
    published, spec, ruined, tmp_path, monkeypatch
):
    """A copy of the folder and a label are one check with two names, and no event."""
    from flows.check_flow import collapse_check

    told = []
    monkeypatch.setattr(events, "emit_event", lambda event, **_: told.append(event))

    whole, state = published
    results = shutil.copytree(whole, tmp_path / "results", copy_function=shutil.copy2)
    copy = shutil.copytree(ruined, tmp_path / "copy")
    again = spec.model_copy(update={"edited": str(copy), "name": "night build"})
    other = collapse_check(again, str(results), return_state=True)
    assert told == []
    assert other.result() == state.result()
    assert "Nothing had to be computed" in other.message
    assert len(manifests(results, "check-")) == 1
    names = ask(results, "select name, edited from check_outcomes order by name").rows()
    assert names == [("night build", "copy"), ("ruined", "ruined")]


def test_command_says_it_and_ends_with_3(published, ruined, capsys):
    """JSON on standard output, and the exit status of a collapse."""
    results, _ = published
    given = ["check", str(BASE), str(ruined), "--texts", str(DEMO / "texts.jsonl")]
    given += ["--facts", str(DEMO / "counterfact.json"), "--limit", "2"]
    given += ["--results", str(results)]
    assert main([*given, "--json"]) == COLLAPSED
    report = json.loads(capsys.readouterr().out)
    assert (report["name"], report["verdict"]) == ("ruined", "collapsed")
    assert report["findings"]["changes"][0]["tensor"] == DOWN
    assert main(given) == COLLAPSED
    said = capsys.readouterr().out
    assert "verdict:    collapsed" in said
    assert "facts:      2: efficacy" in said


def test_command_refuses_what_is_no_edit_of_the_model(tmp_path, capsys):
    """A model of another family is a mistake of the user's, in a sentence."""
    other = str(DEMO / "models" / "llama-induced")
    assert main(["check", str(BASE), other, "--results", str(tmp_path)]) == USER_ERROR
    assert "neither is made from the other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verdict", "strict", "status"),
    [
        ("alive", True, 0),
        ("nothing differs", True, 0),
        ("collapsed", False, COLLAPSED),
        ("will collapse", False, COLLAPSED),
        ("at risk", False, 0),
        ("at risk", True, COLLAPSED),
        ("not known", False, 0),
        ("not known", True, COLLAPSED),
    ],
)
def test_exit_status(verdict, strict, status):
    """A collapse is 3; with --strict a doubt is one too."""
    assert status_of(verdict, strict=strict) == status
