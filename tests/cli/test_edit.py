"""The command ``edit``: one edit as the results folder's studies make it, or set up anew."""

import json
import shutil

import pytest

from editcollapse.cli.edit import texts_for
from editcollapse.config.study_file import read_study
from editcollapse.data.texts import NEUTRAL_TEXTS
from editcollapse.study import plan as planning
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.results_folder import results_at
from flows.__main__ import USER_ERROR, main
from flows.cli.edit import REFUSED
from flows.edit_flow import effect
from reports.text import number
from storage.ask import ask, findings
from storage.publish import publish
from tests.storage.conftest import make_row
from tests.support.flow_runs import REPOSITORY, manifests, units_computed

_OSLO = ("--prompt", "{} likes the colour", "--subject", "Oslo", "--target", "blue")


@pytest.fixture(scope="module")
def results(first_run, tmp_path_factory):
    """Return a copy of a finished study's results, for all edits of this file."""
    folder = tmp_path_factory.mktemp("edits") / "results"
    return shutil.copytree(first_run.results, folder, copy_function=shutil.copy2)


@pytest.fixture
def edit(backend, study, monkeypatch):
    """Return a function that calls the command in this process; it returns the exit status."""
    from flows.observe import environment

    monkeypatch.setattr(environment, "prepare", lambda _: "the tests' server")
    model = read_study(study).models[0].source
    texts = str(study.parent / "texts.json")

    def call(results, *options):
        return main(
            ["edit", "--model", model, "--texts", texts, "--results", str(results), *options]
        )

    return call


@pytest.mark.slow
def test_command_plans_its_study_once(edit, first_run, monkeypatch, tmp_path):
    """What is checked before a server starts is what the flow runs: no input is read twice."""
    results = shutil.copytree(first_run.results, tmp_path / "results")
    planned = []
    plan = planning._plan

    def counted(study, place, thresholds_of):
        planned.append(study.name)
        return plan(study, place, thresholds_of)

    monkeypatch.setattr(planning, "_plan", counted)
    assert edit(results, *_OSLO) == 0
    assert len(planned) == 1
    assert edit(results, *_OSLO) == 0
    assert len(planned) == 2


def test_edit_is_set_up_as_the_study(edit, results, study, capsys):
    """Nothing is drawn or measured again, and the edit is the one that a forecast is of."""
    before = units_computed(results)
    templates = ask(results, "from templates order by all")
    assert edit(results, *_OSLO, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["decision"], printed["policy"], printed["made_method"]) == (
        "made",
        None,
        "rome",
    )
    said = effect(results, findings(results, printed["study_id"]))
    assert said.startswith("Oslo likes the colour -> blue, of model: made by ROME, it ")
    assert f"{number(printed['perplexity'])} after." in said
    new = {unit.partition("-")[0] for unit in units_computed(results) if unit not in before}
    assert new - {"forecast"} == {"edits", "evaluation", "study"}
    kinds = dict(ask(results, "select name, kind from studies").iter_rows())
    assert {kinds.pop("small"), *kinds.values()} == {"study", "single edit"}
    assert set(ask(results, "from collapse_incidence")["study"]) == {"small"}
    asked = ask(results, "from collapse_incidence(kinds := ['single edit'])")
    measured = ask(
        results,
        "select distinct name from studies join study_edits using (study_id) "
        "join measurements using (edit_id) where kind = 'single edit'",
    )
    assert printed["study"] in set(asked["study"])
    assert set(asked["study"]) == set(measured["name"])  # a refused edit has no measurement
    assert ask(results, "from templates order by all").equals(templates)
    assert printed["perplexity"] == pytest.approx(
        printed["perplexity_ratio"] * printed["perplexity_before"]
    )
    model = read_study(study).models[0].source
    assert main(["forecast", "--model", model, *_OSLO, "--results", str(results), "--json"]) == 0
    (forecasted,) = json.loads(capsys.readouterr().out)["requests"]
    ids = {
        each["forecast"]["method"]: each["forecast"]["edit_id"] for each in forecasted["methods"]
    }
    assert printed["edit_id"] == ids["rome"]
    shared = "select distinct covariance_id, template_set_id, settings_id, layer from edits"
    assert ask(results, shared).height == 1


def test_refusal_has_its_exit_status_and_reason(edit, results, capsys):
    """A guard below all bounds refuses: status 3, the decision with its reason, and no edit."""
    edits = ask(results, "select count(*) from edits").item()
    calibrate(results)
    assert edit(results, *_OSLO, "--guard", "refuse") == REFUSED
    out = capsys.readouterr().out
    assert "Oslo likes the colour -> blue" in out
    assert "decision:   refused. On text rome may change the layer's output by" in out
    assert "The guard refuses such edits." in out
    assert "perplexity" not in out
    assert ask(results, "select count(*) from edits").item() == edits
    assert ask(results, "select decision from guard_decisions").rows() == [("refused",)]
    before = manifests(results, "forecast-")
    assert edit(results, *_OSLO, "--guard", "refuse", "--json") == REFUSED
    printed = json.loads(capsys.readouterr().out)
    assert (printed["decision"], printed["edit_id"], printed["perplexity"]) == (
        "refused",
        None,
        None,
    )
    assert printed["calibration_id"] == "low"
    assert manifests(results, "forecast-") == before


def test_any_editor_makes_an_edit(edit, tmp_path, capsys):
    """An edit beyond rank one is measured and recorded; nothing is forecast of it."""
    results = tmp_path / "results"
    assert (
        edit(results, *_OSLO, "--method", "memit", "--covariance", "identity", "--layer", "1") == 0
    )
    said = capsys.readouterr().out
    assert "-> blue, of model, layers 0-1" in said
    assert "forecast:   memit: not known: the forecast knows rank-one methods only" in said
    row = ask(results, "from edits").row(0, named=True)
    assert (row["method"], row["denominator"]) == ("memit", None)
    assert f"update:     text change {number(row['text_change'])}" in said


def calibrate(results):
    """Enter a calibration by which every edit of the folder's model is at risk."""
    model_id = ask(results, "select model_id from models").item()
    row = make_row(
        "forecast_calibrations",
        calibration_id="low",
        model_id=model_id,
        calibrated_at="2999-01-01",
        at_risk_at=1e-9,
        collapse_at=1e9,
    )
    ArtifactStore(results).put_rows("forecast_calibrations", [row])
    publish(results_at(results))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((*_OSLO, "--acts-at", "at risk"), "--acts-at was given without --guard"),
        ((*_OSLO[2:], "--prompt", "{} and {}"), "--prompt has 2 slots {}"),
        (_OSLO, "no second moment C for"),
        ((*_OSLO, "--method", "memit"), "--method memit needs C of all layers that it edits"),
        (
            (*_OSLO, "--method", "memit", "--covariance", "identity", "--guard", "refuse"),
            "--guard forecasts rank-one methods",
        ),
        ((*_OSLO, "--method", "mend"), "'mend' is not one of 'rome', "),
        ((*_OSLO, "--covariance", "identity", "--layer", "99"), "--layer 99"),
        ((*_OSLO, "--covariance", "none.txt"), "none.txt"),
        ((*_OSLO, "--covariance", "identity", "--texts", "none.json"), "none.json"),
        ((*_OSLO[:-1], "Xyzzy", "--covariance", "identity", "--layer", "1"), "cannot take this"),
    ],
)
def test_mistakes_are_sentences(edit, tmp_path, capsys, options, sentence):
    """What is missing or wrong is said, with exit status 2."""
    assert edit(tmp_path / "no", *options) == USER_ERROR
    err = capsys.readouterr().err
    assert "error: " in err
    assert sentence in err
    assert "Traceback" not in err


def test_texts_are_those_beside_the_model_or_the_packages(study):
    """A demo model comes with texts of its language; any other is measured on neutral English."""
    assert (
        texts_for(str(REPOSITORY / "demo/models/gpt2-induced")) == REPOSITORY / "demo/texts.jsonl"
    )
    assert texts_for(read_study(study).models[0].source) == NEUTRAL_TEXTS
    assert texts_for("owner/model") == NEUTRAL_TEXTS
