"""Mistakes that only a model can show, and records that are rejected while the rest goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from editcollapse.errors import DatasetError, ModelError, MomentError
from flows.__main__ import USER_ERROR, main
from storage.ask import ask
from tests.support.flow_runs import manifests, run_command
from tests.support.small_study import fact, write_model, write_toml


@pytest.fixture
def inputs(study: Path, tmp_path: Path) -> Path:
    """Return a folder with the small study and its inputs, free to be spoiled."""
    return shutil.copytree(study.parent, tmp_path / "inputs")


@pytest.mark.slow
def test_singular_moment_is_explained(inputs, run_study, tmp_path):
    """Too few tokens for C: the sentence names the two ways out, and finished units stay."""
    study = write_toml(inputs / "study.toml", **{"covariance.n_tokens": 10})
    with pytest.raises(MomentError, match=r"singular\. Raise `covariance.n_tokens`"):
        run_study(study, tmp_path / "results")
    kept = manifests(tmp_path / "results", "covariance") | manifests(
        tmp_path / "results", "templates"
    )
    write_toml(inputs / "study.toml", **{"covariance.n_tokens": 10, "covariance.damping": 0.1})
    run_study(study, tmp_path / "results")
    assert kept.items() <= manifests(tmp_path / "results").items()


def test_tokenizer_without_start_token_is_explained(inputs, run_study, tmp_path):
    """Templates that need a start token are refused where the tokenizer has none."""
    write_model(inputs / "model", start_token=False)
    study = write_toml(inputs / "study.toml", **{"templates.kind": "start_token"})
    with pytest.raises(ModelError, match='Use "five_words" or a file'):
        run_study(study, tmp_path / "results")


@pytest.mark.parametrize("shape", [(5, 5), pytest.param((24, 23), marks=pytest.mark.slow)])
def test_statistics_of_wrong_shape_are_explained(inputs, run_study, tmp_path, shape):
    """Published statistics of another layer or model are refused with both widths."""
    np.savez(
        inputs / "layer.npz", **{"mom2.mom2": np.ones(shape, np.float32), "mom2.count": np.array(9)}
    )
    changes = {"covariance.kind": "statistics", "covariance.source": None}
    study = write_toml(inputs / "study.toml", **changes, **{"models.statistics": "layer.npz"})
    with pytest.raises(MomentError, match="24"):
        run_study(study, tmp_path / "results")


def test_texts_of_one_token_alone_are_explained(inputs, run_study, tmp_path):
    """A text of one token has no perplexity: a set of nothing else is refused."""
    (inputs / "texts.json").write_text('["river"]')
    with pytest.raises(DatasetError, match="token"):
        run_study(inputs / "study.toml", tmp_path / "results")


def test_rejected_records_are_reported_and_the_others_run(
    inputs, run_study, tmp_path, capsys, caplog
):
    """A record without subject, one whose prompt lacks it, and a one-token text leave the rest."""
    no_subject, no_slot, unknown = fact(0), fact(1), fact(2)
    del no_subject["requested_rewrite"]["subject"]
    no_slot["requested_rewrite"]["prompt"] = "The river is"
    unknown["requested_rewrite"]["target_new"]["str"] = "unheard-of"
    facts = [no_subject, no_slot, unknown, fact(3), fact(4)]
    (inputs / "facts.json").write_text(json.dumps(facts))
    texts = json.loads((inputs / "texts.json").read_text())
    (inputs / "texts.json").write_text(json.dumps([*texts, "river", ""]))
    study, results = inputs / "study.toml", tmp_path / "results"

    assert main(["plan", str(study), "--results", str(results)]) == 0
    plan = capsys.readouterr().out
    assert "record 0" in plan
    assert "record 1" in plan
    assert "text 4" in plan
    assert not results.exists()

    run_study(study, results)
    rejected = ask(results, "select record_index, reason from rejections order by 1")
    assert rejected["record_index"].to_list() == [0, 1, 2]
    for reason, word in zip(rejected["reason"], ("subject", "subject", "unheard-of"), strict=True):
        assert word in reason
    (edits,) = ask(results, "select count(*) from measurements").row(0)
    assert edits == 2 * 3
    assert ask(results, "select n_texts from base_perplexities").row(0) == (len(texts),)
    assert "river" in caplog.text


@pytest.mark.slow
def test_deleted_model_leaves_its_results(inputs, run_study, tmp_path, capsys):
    """A model that is gone is named; what was measured on it still answers SQL."""
    study = write_toml(inputs / "study.toml", **{"models.source": "./model", "dataset.limit": 2})
    run_study(study, tmp_path / "results")
    shutil.rmtree(inputs / "model")
    at = ["--results", str(tmp_path / "results")]
    assert main(["run", str(study), *at]) == USER_ERROR
    assert "no model folder" in capsys.readouterr().err
    assert main(["sql", "--csv", "select count(*) as n from edit_outcomes", *at]) == 0
    assert capsys.readouterr().out == "n\n6\n"


@pytest.mark.slow
@pytest.mark.server
def test_mistake_inside_a_run_is_one_sentence_on_the_terminal(inputs, server, tmp_path):
    """Prefect's tracebacks of a user's mistake are on the run's page; the terminal has one line."""
    study = write_toml(inputs / "study.toml", **{"covariance.n_tokens": 10})
    done = run_command(
        "run", study, "--results", tmp_path / "results", home=tmp_path, PREFECT_API_URL=server
    )
    assert done.returncode == USER_ERROR
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("singular") == 1
    assert done.stderr.splitlines()[-1].startswith("error: the second moment")
