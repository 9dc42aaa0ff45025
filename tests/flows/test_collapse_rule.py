"""One collapse rule: a study may state it, options change it, pages and tables name it."""

import json

import pytest

from editcollapse.config.study_file import read_study
from editcollapse.errors import ResultsError
from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule
from editcollapse.study.plan import plan_study
from editcollapse.study.results_folder import results_at
from flows.__main__ import USER_ERROR, main
from reports.page import has_report
from storage.ask import ask, common_rule, findings, study_figures, study_rule
from storage.readers import thresholds
from tests.flows.test_report import page_of
from tests.support.flow_runs import artifact, units_computed
from tests.support.small_study import write_toml

_EDITS = "select edit_id from study_edits order by all"


@pytest.fixture(scope="module")
def ratio(first_run):
    """Return a ratio of perplexities that some edits exceed and some do not."""
    ratios = ask(first_run.results, "select perplexity_ratio from edit_outcomes order by all")
    return float((ratios.item(0, 0) + ratios.item(-1, 0)) / 2)


@pytest.fixture
def ruled(study, ratio):
    """Return a file of the same study that states a rule of its own."""
    file = study.with_name("ruled.toml")
    return write_toml(file, **{"collapse.threshold": 2e6, "collapse.ratio": ratio})


@pytest.fixture
def ruled_run(ruled, run_study, results):
    """Return a run of that study, in a results folder where it ran with the default rule."""
    return run_study(ruled, results)


def n_collapsed(results, ratio):
    """Return how many edits exceed a ratio."""
    query = f"select count(*) from edit_outcomes where perplexity_ratio > {ratio!r}"  # noqa: S608
    return ask(results, query).item()


def test_a_stated_rule_changes_counts_and_no_id(ruled_run, first_run, ratio):
    """Nothing is computed again but the report, which counts by the rule and says so."""
    rule = CollapseRule(2e6, ratio)
    results = ruled_run.results
    assert ruled_run.study_id == first_run.study_id
    assert ask(results, _EDITS).equals(ask(first_run.results, _EDITS))
    assert ruled_run.computed() == ruled_run.computed("record ") + ruled_run.computed("report ")
    assert study_rule(first_run.results, first_run.study_id) == DEFAULT_RULE
    assert study_rule(results, first_run.study_id) == common_rule(results) == rule
    found = findings(results, first_run.study_id)
    assert found.rule == study_figures(results, first_run.study_id).rule == rule
    expected = n_collapsed(results, ratio)
    assert 0 < expected == found.incidence.frame["n_collapsed"].sum() < found.n_measured
    page = page_of(results)
    assert f"above 2000000 (and not so unedited), above {ratio:.10g} times" in page.text
    assert "above 1000 (" not in page.text
    assert f"threshold := 2000000, ratio := {ratio!r}" in page.sql["incidence"]
    for key in ("findings", "incidence"):
        assert artifact(ruled_run.flow_run_id, f"{key}-small")
    assert f"{ratio:.10g} times" in artifact(ruled_run.flow_run_id, "findings-small").data


@pytest.mark.slow
def test_a_rule_that_changes_writes_the_page_again(ruled_run, ruled, study, run_study):
    """There and back: the page is always by the rule of the study that ran last."""
    results, place = ruled_run.results, results_at(ruled_run.results)
    stated = read_study(ruled).collapse.rule
    assert has_report(place, "small", ruled_run.study_id, stated)
    assert run_study(ruled, results).computed() == 0
    back = run_study(study, results)
    assert back.computed() == back.computed("report ") == 1
    assert has_report(place, "small", ruled_run.study_id, DEFAULT_RULE)
    assert "above 1000 (" in page_of(results).text
    run_study(ruled, results)
    assert has_report(place, "small", ruled_run.study_id, stated)


def test_run_counts_by_the_study_s_rule_or_the_options(ruled_run, ruled, ratio, capsys):
    """The table and the page are by one rule, the study's or what the options make of it."""
    results, place = ruled_run.results, results_at(ruled_run.results)
    asked = ["run", str(ruled), "--results", str(results), "--json"]
    assert main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rule"] == {"threshold": 2e6, "ratio": ratio, "measure": "mean"}
    assert sum(row["n_collapsed"] for row in found["incidence"]) == n_collapsed(results, ratio)
    before = units_computed(results)
    assert main([*asked, "--ratio", "inf"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rule"] == {"threshold": 2e6, "ratio": None, "measure": "mean"}
    assert has_report(place, "small", ruled_run.study_id, CollapseRule(2e6, None))
    new = {unit.partition("-")[0] for unit in set(units_computed(results)) - set(before)}
    assert new <= {"report"}
    assert study_rule(results, ruled_run.study_id) == CollapseRule(2e6, ratio)


@pytest.mark.slow
def test_report_is_by_the_study_s_rule_or_the_options(ruled_run, ratio):
    """The command reads the rule from the published study; an option changes it."""
    results, place = ruled_run.results, results_at(ruled_run.results)
    asked, stated = ["report", "small", "--results", str(results)], CollapseRule(2e6, ratio)
    assert main([*asked, "--threshold", "7", "--ratio", "3"]) == 0
    assert has_report(place, "small", ruled_run.study_id, CollapseRule(7, 3))
    assert "above 7 (and not so unedited), above 3 times" in page_of(results).text
    assert main([*asked, "--measure", "nll"]) == 0
    by_nll = CollapseRule(2e6, ratio, "nll")
    assert has_report(place, "small", ruled_run.study_id, by_nll)
    assert "perplexity (exp(mean NLL)) above 2000000" in page_of(results).text
    assert "measure := 'nll'" in page_of(results).sql["incidence"]
    assert main(asked) == 0
    assert has_report(place, "small", ruled_run.study_id, stated)


@pytest.mark.slow
def test_calibration_and_guard_go_by_the_study_s_rule(ruled_run, ruled, study, ratio, capsys):
    """Thresholds are taken from what the studies call a collapse, and used by who calls it so."""
    results = str(ruled_run.results)
    assert main(["forecast", str(ruled), "--results", results]) == 0
    capsys.readouterr()
    assert main(["calibrate", "--results", results, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rule"] == {"threshold": 2e6, "ratio": ratio, "measure": "mean"}
    (model,) = found["models"]
    assert model["calibration"]["n_collapsed"] == n_collapsed(ruled_run.results, ratio)
    model_id, own = model["calibration"]["model_id"], model["calibration"]["calibration_id"]
    of_study = thresholds(ruled_run.results, model_id, read_study(ruled).collapse.rule)
    assert of_study.calibration_id == thresholds(ruled_run.results, model_id).calibration_id == own
    assert thresholds(ruled_run.results, model_id, DEFAULT_RULE).is_default
    for file, calibration_id in ((ruled, own), (study, "default")):
        assert main(["forecast", str(file), "--results", results, "--json"]) == 0
        (basis,) = json.loads(capsys.readouterr().out)["basis"]
        assert basis["thresholds"]["calibration_id"] == calibration_id
    assert main(["calibrate", "--results", results]) == 0
    assert (
        f"collapsed: perplexity above 2000000 (and not so unedited), above {ratio:.10g} times"
        in " ".join(capsys.readouterr().out.split())
    )


@pytest.mark.slow
def test_studies_of_different_rules_need_the_options(ruled_run, ruled, run_study, capsys):
    """Of two rules none is taken: both studies are named with theirs."""
    results = ruled_run.results
    other = write_toml(ruled.with_name("other.toml"), name="plain", seed=3)
    run_study(other, results)
    with pytest.raises(ResultsError, match=r"state different collapse rules .*plain: .*small: "):
        common_rule(results)
    assert main(["calibrate", "--results", str(results)]) == USER_ERROR
    assert "--threshold, --ratio and --measure" in capsys.readouterr().err


def test_a_rule_is_in_no_id(ruled, study, results):
    """Plans of both files have the same ids."""
    mine, plain = (plan_study(read_study(file), results) for file in (ruled, study))
    assert mine.study_id == plain.study_id
    assert mine.evaluation_id == plain.evaluation_id
