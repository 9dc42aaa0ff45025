"""Layer sweeps of a study and of one edit: one pass for all layers, cached, recorded, told."""

import json
import shutil
from collections import Counter

import pytest

from editcollapse.config.study_file import read_study
from flows.__main__ import USER_ERROR, main
from storage.ask import ask, query_text
from tests.support.flow_runs import manifests, units_computed
from tests.support.small_study import METHODS, N_BATCHES, N_REQUESTS, N_SHARDS

_N_LAYERS = 3
_KINDS = {
    "templates": 1,
    "corpus": 1,
    "shard": N_SHARDS,
    "probes": 1,
    "covariance": _N_LAYERS,
    "sweep": N_BATCHES,
}
"""Records that a sweep leaves, by kind: shards and batches as of one layer."""
_ALL_METHODS = 5
_ONE = ("--prompt", "{} likes the colour", "--subject", "Oslo", "--target", "blue")


@pytest.fixture(scope="module")
def swept(backend, study, tmp_path_factory):
    """Return the results folder of a sweep that was made before anything else."""
    from flows.sweep_flow import layer_sweep

    results = tmp_path_factory.mktemp("swept") / "results"
    assert layer_sweep(read_study(study), "all", str(results)) == _N_LAYERS
    return results


def test_one_pass_serves_all_layers(swept):
    """The corpus is summed once, each batch runs once, and every layer has its C."""
    assert {kind: len(manifests(swept, f"{kind}-")) for kind in _KINDS} == _KINDS
    assert len(manifests(swept)) == sum(_KINDS.values())
    computed = units_computed(swept)  # their provenance
    assert set(computed.values()) == {1}
    assert Counter(unit.split("-")[0] for unit in computed) == _KINDS
    found = ask(swept, "select layer from covariances order by layer")["layer"]
    assert found.to_list() == list(range(_N_LAYERS))


def test_verdicts_are_counted_by_layer(swept):
    """Each request counts once for each layer and method; nothing says that the study has run."""
    query = """
        select layer, method, sum(n_requests) as n, sum(n_safe + n_at_risk + n_will_collapse) as m
        from forecast_by_layer
        where model_source = 'model'
        group by all
    """
    rows = ask(swept, query).rows()
    assert len(rows) == _N_LAYERS * _ALL_METHODS
    assert {(n, m) for _, _, n, m in rows} == {(N_REQUESTS, N_REQUESTS)}
    for table in ("studies", "study_models", "edits"):
        assert ask(swept, f"from {table}").is_empty()


@pytest.mark.slow
def test_second_sweep_computes_nothing(swept, study):
    """Run again, every unit is found, the snapshot stays the same file, and the run says so."""
    from flows.sweep_flow import layer_sweep

    snapshot = swept / "results.duckdb"
    before = snapshot.stat().st_mtime_ns, units_computed(swept)
    state = layer_sweep(read_study(study), "all", str(swept), return_state=True)
    assert state.result() == _N_LAYERS
    assert state.message.startswith("tiny, ROME: all edits are safe at ")
    assert state.message.count("all edits are safe at ") == len(METHODS)
    assert "Nothing had to be computed" in state.message
    assert (snapshot.stat().st_mtime_ns, units_computed(swept)) == before


def test_forecast_finds_what_a_sweep_measured(swept, study, tmp_path):
    """A forecast of the study's layer needs no pass over the corpus, and says the same."""
    from flows.forecast_flow import collapse_forecast

    results = shutil.copytree(swept, tmp_path / "results", copy_function=shutil.copy2)
    query = "from forecasts where layer = 1 order by edit_id"
    before = ask(results, query)
    assert collapse_forecast(read_study(study), str(results)) == N_REQUESTS
    new = set(units_computed(results)) - set(units_computed(swept))
    assert {unit.split("-")[0] for unit in new} == {"forecast"}
    after = ask(results, query)
    assert after["edit_id"].equals(before["edit_id"])
    for name in ("denominator", "rho", "text_change_bound"):
        assert (after[name] / before[name] - 1).abs().max() < 1e-4, name  # float32 keys


@pytest.mark.slow
def test_layers_of_a_study_are_asked_by_its_id(swept, study, tmp_path):
    """After a study has run, query ``layers`` has its models' names and every layer."""
    from flows.study import collapse_study

    results = shutil.copytree(swept, tmp_path / "results", copy_function=shutil.copy2)
    study_id = collapse_study(read_study(study), str(results))
    found = ask(results, query_text("layers").replace("$study_id", f"'{study_id}'"))
    assert set(found["model"]) == {"tiny"}
    assert found["layer"].unique().sort().to_list() == list(range(_N_LAYERS))


@pytest.mark.slow
def test_sweep_is_told_as_tables_and_as_json(swept, study, tmp_path, capsys):
    """Every layer, method and position is told, with the layers at which all is safe."""
    results = shutil.copytree(swept, tmp_path / "results", copy_function=shutil.copy2)
    asked = ["sweep", str(study), "--results", str(results)]
    assert main([*asked, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {row["layer"] for row in report["layers"]} == set(range(_N_LAYERS))
    for layer in range(_N_LAYERS):
        rows = [r for r in report["layers"] if (r["layer"], r["method"]) == (layer, "rome")]
        assert sum(row["n_requests"] for row in rows) == N_REQUESTS
    safe = {each["method"]: each["layers"] for each in report["safe_layers"]}
    query = """
        select layer from forecast_by_layer where method = 'c_rome'
        group by layer having sum(n_safe) = sum(n_requests) order by layer
    """
    assert safe["c_rome"] == ask(swept, query).to_series().to_list()
    assert main([*asked, "--layers", "0,2"]) == 0
    out = capsys.readouterr().out
    assert "tiny: % safe/at risk/likely to collapse" in out
    assert all(f"{method}: all safe at" in out for method in METHODS)
    assert "tiny: layer 2 is the last" in out
    assert "\n    2  rome" in out
    assert "\n    1  " not in out


def test_one_edit_is_told_layer_by_layer(swept, study, capsys):
    """With C of the results, of a corpus, or without, each layer and method has its verdict."""
    model = read_study(study).models[0].source
    corpus = str(study.parent / "corpus.txt")
    asked = ["sweep", "--model", model, *_ONE, "--results", str(swept), "--json"]
    for more in ([], ["--covariance", "identity"], ["--covariance", corpus, "--tokens", "400"]):
        assert main([*asked, *more]) == 0
        found = json.loads(capsys.readouterr().out)["requests"]
        assert [each["layer"] for each in found] == list(range(_N_LAYERS))
        assert all(len(each["methods"]) == _ALL_METHODS for each in found)
        if not more:
            query = "from forecast_verdicts where subject = 'Oslo' and method = 'rome'"
            stored = ask(swept, f"{query} order by layer")["text_change_bound"]
            for each, bound in zip(found, stored, strict=True):
                (rome,) = [m for m in each["methods"] if m["forecast"]["method"] == "rome"]
                assert rome["forecast"]["text_change_bound"] == pytest.approx(bound, rel=1e-4)


def test_one_edit_is_told_as_a_table(study, tmp_path, capsys):
    """The table has a row a layer; nothing is written."""
    model = read_study(study).models[0].source
    more = ["--covariance", "identity", "--layers", "1-2", "--results", str(tmp_path / "no")]
    assert main(["sweep", "--model", model, *_ONE, *more]) == 0
    out = capsys.readouterr().out
    assert "Oslo likes the colour -> blue" in out
    assert "\n    1  " in out
    assert "\n    0  " not in out
    assert not (tmp_path / "no").exists()


def test_swept_layers_do_not_make_a_forecast_ambiguous(swept, study, tmp_path, capsys):
    """A forecast without --layer is of the study's layer; a swept one is there for who asks."""
    model = read_study(study).models[0].source
    asked = ["forecast", "--model", model, *_ONE, "--results", str(swept), "--json"]
    for more, layer in (([], 1), (["--layer", "2"], 2)):
        assert main([*asked, *more]) == 0
        assert json.loads(capsys.readouterr().out)["requests"][0]["layer"] == layer


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--layers", "2-0"], "runs backwards"),
        (["--layers", "x"], "'x' is neither a layer nor a range"),
        (["--layers", "0-3"], "layer 3 of tiny, which has layers 0 to 2"),
        (["--model", "m"], "a study file and --model were given"),
    ],
)
def test_mistakes_are_told_before_anything_runs(study, tmp_path, capsys, options, sentence):
    """Exit status 2 and a sentence; no results folder is made."""
    results = tmp_path / "no"
    assert main(["sweep", str(study), *options, "--results", str(results)]) == USER_ERROR
    assert sentence in capsys.readouterr().err
    assert not results.exists()


def test_layers_without_a_covariance_are_told(first_run, study, capsys):
    """A study that edits one layer is no sweep: the sentence says which layers have no C."""
    model = read_study(study).models[0].source
    asked = ["sweep", "--model", model, *_ONE, "--results", str(first_run.results)]
    assert main(asked) == USER_ERROR
    err = capsys.readouterr().err
    assert "no second moment C of layers 0, 2 of" in err
    assert "editcollapse sweep STUDY.toml" in err
