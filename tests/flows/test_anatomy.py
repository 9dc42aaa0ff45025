"""The root cause as a flow: after a study only the comparison is new; kept by gc and backups."""

import json
import os
import shutil
import time

import polars as pl
import pytest

from editcollapse.config.study_file import read_study
from editcollapse.rows.collapse_rule import CollapseRule
from flows.__main__ import USER_ERROR, main
from storage.ask import ask
from storage.readers import anatomy_findings
from tests.support.flow_runs import units_computed
from tests.support.small_study import fact, write_study, write_toml

_N = 12
_SUBJECTS = ("Mira", "Oslo", "Quill", "Vane", "Arden", "Tarn")
_DAYS_AGO = time.time() - 10 * 86400


@pytest.fixture(scope="module")
def twelve(tmp_path_factory):
    """Return a small study of 12 requests: in six the subject opens the prompt."""
    file = write_study(tmp_path_factory.mktemp("twelve"))
    facts = [fact(index) for index in range(_N)]
    for index, each in enumerate(facts):
        each["requested_rewrite"]["subject"] = _SUBJECTS[index // 2]
    (file.parent / "facts.json").write_text(json.dumps(facts))
    return write_toml(file, batch_size=6, methods=["rome"])


@pytest.fixture(scope="module")
def explained(backend, twelve, run_study, tmp_path_factory):
    """Return the results of that study, run and then explained."""
    from flows.anatomy import collapse_anatomy

    results = tmp_path_factory.mktemp("explained") / "results"
    study_id = run_study(twelve, results).study_id
    before = set(units_computed(results))
    assert collapse_anatomy(read_study(twelve), str(results)) == study_id
    new = set(units_computed(results)) - before
    assert {unit.rpartition("-")[0] for unit in new} == {"anatomy", "profiles"}
    assert set(units_computed(results).values()) == {1}
    return results


def test_findings_points_and_profiles_are_published(explained):
    """Readers see them with the names of study, model and subject."""
    found = ask(explained, "from anatomy order by observation_order")
    assert set(found["model"]) == {"tiny"}
    assert set(found["study"]) == {"small"}
    assert found["observation_order"].to_list() == list(range(1, 10))
    assert set(found["n_group"]) == {6}
    points = ask(explained, "from key_geometry")
    assert points.height == 4 * _N + 6
    assert set(points["subject"]) == set(_SUBJECTS)
    assert points["tsne_x"].null_count() == 0
    assert ask(explained, "from position_profiles where position = 0").height == 3
    (path,) = set(points["vectors_path"])
    vectors = pl.read_parquet(explained / path)
    assert vectors.height == points.height


def test_second_run_computes_nothing(explained, twelve):
    """Asked again, everything is found and the snapshot stays the file that it was."""
    from flows.anatomy import collapse_anatomy

    snapshot = explained / "results.duckdb"
    before = snapshot.stat().st_mtime_ns, units_computed(explained)
    state = collapse_anatomy(read_study(twelve), str(explained), return_state=True)
    assert "tiny: The median |k0 . u| of " in state.message
    assert "Nothing had to be computed" in state.message
    assert (snapshot.stat().st_mtime_ns, units_computed(explained)) == before


@pytest.mark.slow
def test_another_rule_compares_anew_and_nothing_else(explained, twelve, tmp_path, capsys):
    """With a rule by which some edits collapse, these are a group; profiles and edits stay."""
    results = shutil.copytree(explained, tmp_path / "results", copy_function=shutil.copy2)
    ratios = ask(results, "select perplexity_ratio from edit_outcomes order by all").to_series()
    ratio = str((ratios[5] + ratios[6]) / 2)
    before = set(units_computed(results))
    options = ["--results", str(results), "--ratio", ratio]
    assert main(["anatomy", str(twelve), *options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {unit.partition("-")[0] for unit in set(units_computed(results)) - before} == {"anatomy"}
    found = {(each["grouping"], each["observation"]): each for each in report["findings"]}
    assert {grouping for grouping, _ in found} == {"first_token", "collapsed"}
    assert report["rule"]["ratio"] == float(ratio)
    value = found["collapsed", "numerator_ratio"]["value"]
    made = ask(results, "select numerator_norm, perplexity_ratio from edit_outcomes")
    fell, stood = (
        made.filter((pl.col("perplexity_ratio") > float(ratio)) == side)["numerator_norm"].median()
        for side in (True, False)
    )
    assert value == pytest.approx(fell / stood)
    assert main(["anatomy", str(twelve), *options]) == 0
    out = capsys.readouterr().out
    assert "tiny layer 1, by collapsed" in out
    assert "numerator_ratio" in out
    assert "Random weights: the numbers mean nothing." in out
    rules = ask(results, "select distinct collapse_ratio from anatomy order by all").to_series()
    assert rules.to_list() == sorted([10.0, float(ratio)])
    assert len(anatomy_findings(results, report["study_id"], CollapseRule())) == 9


def test_vectors_outlive_gc_and_come_with_a_backup(explained, tmp_path, capsys):
    """Rows refer to them: gc leaves them, also without their job; a backup has them."""
    results = shutil.copytree(explained, tmp_path / "results", copy_function=shutil.copy2)
    (name,) = (path.name for path in (results / "artifacts/vectors").iterdir())
    for path in results.rglob("manifests/anatomy-*"):
        path.unlink()
    for path in results.rglob("*"):
        os.utime(path, (_DAYS_AGO, _DAYS_AGO))
    assert main(["gc", "--results", str(results), "--remove"]) == 0
    assert (results / "artifacts/vectors" / name).exists()
    assert main(["backup", str(tmp_path / "b.tar"), "--results", str(results)]) == 0
    assert main(["restore", str(tmp_path / "b.tar"), "--results", str(tmp_path / "back")]) == 0
    assert "left out" not in capsys.readouterr().out
    restored = tmp_path / "back/artifacts/vectors" / name
    assert restored.read_bytes() == (explained / "artifacts/vectors" / name).read_bytes()
    for query in ("from anatomies", "from key_points order by all"):
        assert ask(tmp_path / "back", query).equals(ask(explained, query))


def test_study_without_rome_is_refused(twelve, tmp_path, capsys):
    """There is no collapse of ROME to explain; nothing is run."""
    other = write_toml(twelve.with_name("other.toml"), methods=["c_rome"])
    assert main(["anatomy", str(other), "--results", str(tmp_path / "r")]) == USER_ERROR
    assert 'Add "rome" to its `methods`' in capsys.readouterr().err


def test_encoder_that_is_none_is_refused(twelve, tmp_path, capsys):
    """A decoder given as encoder is told before any work."""
    model = str(twelve.parent / "model")
    asked = ["anatomy", str(twelve), "--results", str(tmp_path / "r"), "--encoder", model]
    assert main(asked) == USER_ERROR
    assert "encoders that can be read: t5" in capsys.readouterr().err


@pytest.mark.slow
def test_encoder_is_profiled_beside_the_study(explained, twelve, tmp_path):
    """Its rows have the stack of their own, and come without anything else being computed."""
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    from flows.anatomy import collapse_anatomy

    tokenizer = AutoTokenizer.from_pretrained(twelve.parent / "model")
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4
    )
    T5EncoderModel(config).save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    results = shutil.copytree(explained, tmp_path / "results", copy_function=shutil.copy2)
    before = set(units_computed(results))
    collapse_anatomy(read_study(twelve), str(results), (str(tmp_path / "t5"),))
    (new,) = set(units_computed(results)) - before
    assert new.startswith("encoder-profiles-")
    query = "select distinct model_source, layer from position_profiles where stack = 'encoder'"
    assert sorted(ask(results, query).rows()) == [("t5", 0), ("t5", 1)]
    summaries = ask(results, "select summary from provenance").to_series().to_list()
    assert "profile of t5, 3 texts" in summaries
