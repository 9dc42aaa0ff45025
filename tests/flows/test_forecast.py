"""Forecasts of a study and of one edit: cached, recorded, shared with the study, and told."""

import json
import shutil

import pytest

from editcollapse.config.study_file import read_study
from flows.__main__ import USER_ERROR, main
from storage.ask import ask
from tests.support.flow_runs import manifests, units_computed
from tests.support.small_study import METHODS, N_BATCHES, N_REQUESTS, N_SHARDS

_KINDS = {
    "templates": 1,
    "corpus": 1,
    "shard": N_SHARDS,
    "probes": 1,
    "covariance": 1,
    "forecast": N_BATCHES,
}
"""Records that a forecast leaves, by kind."""
_ALL_METHODS = 5
_ONE = ("--prompt", "{} likes the colour", "--subject", "Oslo", "--target", "blue")


@pytest.fixture(scope="module")
def forecasted(backend, study, tmp_path_factory):
    """Return the results folder of a forecast that was made before anything else."""
    from flows.forecast_flow import collapse_forecast

    results = tmp_path_factory.mktemp("forecast") / "results"
    assert collapse_forecast(read_study(study), str(results)) == N_REQUESTS
    return results


@pytest.fixture(scope="module")
def studied(first_run, study, tmp_path_factory):
    """Return a copy of a finished study's results, with the forecast made afterwards."""
    from flows.forecast_flow import collapse_forecast

    results = tmp_path_factory.mktemp("studied") / "results"
    shutil.copytree(first_run.results, results, copy_function=shutil.copy2)
    assert collapse_forecast(read_study(study), str(results)) == N_REQUESTS
    return results


def test_only_what_a_forecast_needs_is_computed(forecasted):
    """Templates, C and forecasts have records; no edit, evaluation or report has."""
    assert {kind: len(manifests(forecasted, f"{kind}-")) for kind in _KINDS} == _KINDS
    assert len(manifests(forecasted)) == sum(_KINDS.values())


def test_forecasts_are_recorded_and_published(forecasted):
    """Each request has a row a method where readers look; nothing says that the study has run."""
    found = ask(forecasted, "select count(*), count(distinct method) from forecasts").row(0)
    assert found == (N_REQUESTS * _ALL_METHODS, _ALL_METHODS)
    verdicts = ask(forecasted, "from forecast_verdicts where subject is not null")
    assert verdicts.height == N_REQUESTS * _ALL_METHODS
    assert set(verdicts["model_source"]) == {"model"}
    for table in ("studies", "edits", "measurements", "study_edits"):
        assert ask(forecasted, f"from {table}").is_empty()


def test_second_forecast_computes_nothing(forecasted, study):
    """Run again, every unit is found and the snapshot stays the file that it was."""
    from flows.forecast_flow import collapse_forecast

    snapshot = forecasted / "results.duckdb"
    before = snapshot.stat().st_mtime_ns, units_computed(forecasted)
    state = collapse_forecast(read_study(study), str(forecasted), return_state=True)
    assert state.result() == N_REQUESTS
    assert state.message.startswith(f"Of {N_REQUESTS} edits of tiny, by ROME ")
    assert "Nothing had to be computed" in state.message
    assert (snapshot.stat().st_mtime_ns, units_computed(forecasted)) == before


def test_study_and_forecast_share_their_units(studied, first_run, forecasted):
    """After a study only the forecasts are new; both orders give the same forecasts."""
    new = set(units_computed(studied)) - set(units_computed(first_run.results))
    assert {unit.split("-")[0] for unit in new} == {"forecast"}
    assert set(units_computed(studied).values()) == {1}
    query = "from forecasts order by edit_id"
    assert ask(studied, query).equals(ask(forecasted, query))


def test_no_edit_exceeds_its_forecast(studied):
    """Each edit of the study has its forecast: equal denominators, and a norm within the bound."""
    query = """
        select
            count(*) as n,
            max(abs(edits.denominator / forecasts.denominator - 1)) as off,
            max(edits.update_norm / forecasts.certified_bound) as reached
        from edits inner join forecasts using (edit_id)
    """
    (n, off, reached) = ask(studied, query).row(0)
    assert n == N_REQUESTS * len(METHODS)
    assert off < 1e-4  # float32 keys, read in batches of other shapes
    assert reached < 1 + 1e-5
    assert ask(studied, "select count(*) from forecast_outcomes").item() == n


def test_study_is_told_as_json_and_as_tables(studied, study, capsys):
    """Every request has its place and a verdict a method; the tables count the same."""
    asked = ["forecast", str(study), "--results", str(studied)]
    assert main([*asked, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["requests"]) == N_REQUESTS
    (basis,) = report["basis"]
    assert basis["thresholds"]["is_default"] is True
    for request in report["requests"]:
        assert {each["forecast"]["method"] for each in request["methods"]} >= set(METHODS)
        assert request["position"]["subject_position"] in {"first_token", "first_several", "inside"}
        assert all(each["why"] for each in request["methods"])
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "likely to collapse" in out
    assert "will collapse" not in out
    assert "next: " in out
    assert "default thresholds and P(collapse), not calibrated" in " ".join(out.split())


def test_calibration_is_stored_and_used(studied, study, tmp_path, capsys):
    """Thresholds are taken from the study's own edits, and verdicts then rest on them."""
    results = shutil.copytree(studied, tmp_path / "results")
    ratios = ask(results, "select perplexity_ratio from forecast_outcomes order by all").to_series()
    between = (ratios[0] + ratios[-1]) / 2
    assert main(["calibrate", "--results", str(results), "--ratio", str(between)]) == 0
    assert "from 24 measured edits" in capsys.readouterr().out
    (row,) = ask(results, "from forecast_calibrations").rows(named=True)
    assert row["collapse_ratio"] == between
    assert 0 < row["n_collapsed"] < row["n_edits"] == N_REQUESTS * len(METHODS)
    model = read_study(study).models[0].source
    assert main(["forecast", "--model", model, *_ONE, "--results", str(results), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (basis,) = report["basis"]
    assert basis["thresholds"]["calibration_id"] == row["calibration_id"]
    assert "thresholds calibrated on 24 measured edits of this model" in basis["basis"]


def test_one_edit_is_that_of_the_study(studied, study, capsys):
    """Told alone, an edit has the id and the numbers that the study's forecast has for it."""
    model = read_study(study).models[0].source
    assert main(["forecast", "--model", model, *_ONE, "--results", str(studied), "--json"]) == 0
    (request,) = json.loads(capsys.readouterr().out)["requests"]
    query = "from forecast_verdicts where subject = 'Oslo' and method = 'rome'"
    (row,) = ask(studied, query).rows(named=True)
    (rome,) = [m for m in request["methods"] if m["forecast"]["method"] == "rome"]
    assert (request["layer"], rome["verdict"]) == (row["layer"], row["verdict"])
    for name in ("denominator", "rho", "certified_bound", "relative_bound", "text_change_bound"):
        assert rome["forecast"][name] == pytest.approx(row[name], rel=1e-4), name


@pytest.mark.parametrize("source", ["identity", "corpus"])
def test_one_edit_needs_no_results(study, tmp_path, capsys, source):
    """With the identity or a corpus, an edit gets a forecast without any results folder."""
    source = str(study.parent / "corpus.txt") if source == "corpus" else source
    model = read_study(study).models[0].source
    more = ["--covariance", source, "--tokens", "400", "--layer", "2"]
    assert (
        main(["forecast", "--model", model, *_ONE, *more, "--results", str(tmp_path / "no")]) == 0
    )
    out = capsys.readouterr().out
    assert "Oslo likes the colour -> blue" in out
    assert "subject: first token" in out
    assert "layer 2" in out
    assert "default thresholds" in out
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "nothing to forecast: --prompt, --subject, --target not given"),
        ([*_ONE], "no second moment C for"),
        ([*_ONE[2:], "--prompt", "{} and {}"], "--prompt has 2 slots {}"),
        ([*_ONE[2:], "--prompt", "Lumo likes"], "does not occur in --prompt"),
        ([*_ONE, "--covariance", "identity", "--layer", "99"], "--layer 99"),
        ([*_ONE, "--covariance", "none.txt"], "none.txt"),
        (
            [*_ONE, "--covariance", "corpus.txt", "--tokens", "0"],
            "--tokens 0, --damping 0: tokens have to be at least 1",
        ),
        ([*_ONE[:-1], "Xyzzy", "--covariance", "identity"], "cannot take this edit"),
    ],
)
def test_mistakes_about_one_edit_are_sentences(study, tmp_path, capsys, options, sentence):
    """What is missing or wrong is said, with what to do; exit status 2 and no traceback."""
    model = read_study(study).models[0].source
    status = main(["forecast", "--model", model, *options, "--results", str(tmp_path / "no")])
    err = capsys.readouterr().err
    assert status == USER_ERROR
    assert err.startswith("error: ")
    assert sentence in err
    assert "Traceback" not in err


def test_layer_that_no_study_edits_is_told(studied, study, capsys):
    """The sentence names the layers that there are."""
    model = read_study(study).models[0].source
    asked = ["forecast", "--model", model, *_ONE, "--layer", "2", "--results", str(studied)]
    assert main(asked) == USER_ERROR
    assert "studies there edit layer 1" in capsys.readouterr().err


def test_study_and_edit_together_are_refused(study, capsys):
    """A forecast is of a study or of an edit."""
    assert main(["forecast", str(study), "--model", "m"]) == USER_ERROR
    assert "leave the file out" in capsys.readouterr().err


def test_calibration_without_collapses_is_told(first_run, capsys):
    """A study without forecasts gives nothing to calibrate with."""
    assert main(["calibrate", "--results", str(first_run.results)]) == USER_ERROR
    assert "editcollapse forecast STUDY.toml" in capsys.readouterr().err
