"""Studies behind a guard: what is made, what is recorded, and that nothing is done twice."""

import itertools
import shutil
from pathlib import Path

import pytest

from editcollapse.config.spec import EvaluationSpec
from editcollapse.config.study_file import read_study
from editcollapse.forecast.guard import MAX_TRIED
from editcollapse.study.locks import MANIFESTS
from editcollapse.study.plan import plan_study
from flows.__main__ import main
from storage.ask import ask
from tests.support.flow_runs import manifests, units_computed
from tests.support.small_study import N_REQUESTS, write_toml

_ROOT = Path(__file__).parents[2]
_METHODS = ("rome", "c_rome")


@pytest.fixture(scope="module")
def bounds(backend, study, first_run, tmp_path_factory):
    """Return the change bounds of the small study's ROME edits, by request, and its results."""
    from flows.forecast_flow import collapse_forecast

    results = tmp_path_factory.mktemp("forecast") / "results"
    shutil.copytree(first_run.results, results, copy_function=shutil.copy2)
    collapse_forecast(read_study(study), str(results))
    query = """
        select request_id, method, text_change_bound as bound
        from forecasts where method in ('rome', 'c_rome', 'p_rome')
    """
    return ask(results, query), results


@pytest.fixture(scope="module")
def limit(bounds):
    """Return a change bound that lies within those of the study's ROME edits."""
    found, _ = bounds
    return float(found.filter(method="rome")["bound"].median())


@pytest.fixture(scope="module")
def guarded(bounds, study, limit, tmp_path_factory):
    """Return a function that runs the small study behind a guard in a copy of its results."""
    from flows.study import collapse_study

    numbers = itertools.count()

    def run(policy, results=None, **fields):
        if results is None:
            results = tmp_path_factory.mktemp(policy) / "results"
            shutil.copytree(bounds[1], results, copy_function=shutil.copy2)
        guard = {"at_risk_at": limit, "collapse_at": 1e9, "policy": policy, **fields}
        spec = write_toml(
            study.with_name(
                f"{policy}_{next(numbers)}.toml"
            ),  # none is overwritten by another test
            name=policy,
            methods=list(_METHODS),
            **{f"guard.{name}": value for name, value in guard.items()},
        )
        return collapse_study(read_study(spec), str(results)), results, spec

    return run


@pytest.fixture(scope="module")
def refused(guarded):
    """Return the study that refuses: its id, results and file."""
    return guarded("refuse")


@pytest.fixture(scope="module")
def prefixed(guarded):
    """Return the study that puts texts before prompts."""
    return guarded("prefix")


def decisions(results, study_id):
    """Return a study's decisions, by request and method."""
    query = f"from guard_outcomes where study_id = '{study_id}'"
    rows = ask(results, query).rows(named=True)
    return {(row["request_id"], row["method"]): row for row in rows}


def edits(results, study_id):
    """Return a study's edits with their outcomes, by edit id."""
    query = f"from edit_outcomes where study_id = '{study_id}'"
    return {row["edit_id"]: row for row in ask(results, query).rows(named=True)}


def test_refusing_makes_what_is_below_the_threshold(refused, bounds, limit):
    """Edits from the threshold on are refused, the others made and measured; each is a row."""
    study_id, results, _ = refused
    found = decisions(results, study_id)
    asked = {
        (row["request_id"], row["method"]): row["bound"]
        for row in bounds[0].rows(named=True)
        if row["method"] in _METHODS
    }
    assert found.keys() == asked.keys()
    kinds = {key: "refused" if bound >= limit else "made" for key, bound in asked.items()}
    assert {key: row["decision"] for key, row in found.items()} == kinds
    assert set(kinds.values()) == {"made", "refused"}
    made = edits(results, study_id)
    assert {row["edit_id"] for row in found.values() if row["edit_id"]} == made.keys()
    assert all(row["perplexity"] is not None for row in made.values())
    assert {row["calibration_id"] for row in found.values()} == {"study file"}


@pytest.mark.slow
def test_second_run_computes_nothing(refused, prefixed, guarded, limit):
    """Run again, guarded studies find forecasts, edits and measurements: no unit is new."""
    for (study_id, results, _), policy in ((refused, "refuse"), (prefixed, "prefix")):
        before = manifests(results), units_computed(results)
        assert guarded(policy, results)[0] == study_id
        assert (manifests(results), units_computed(results)) == before
        assert set(units_computed(results).values()) == {1}


@pytest.mark.slow
def test_interrupted_study_goes_on(refused, guarded, tmp_path):
    """Where a batch of edits was not finished, it alone is made; the decisions are the same."""
    study_id, results, _ = refused
    copy = shutil.copytree(results, tmp_path / "results", copy_function=shutil.copy2)
    before = manifests(copy)
    lost = max((name for name in before if name.startswith("edits-")), key=before.__getitem__)
    (copy / MANIFESTS / f"{lost}.json").unlink()
    assert guarded("refuse", copy)[0] == study_id
    new = {name for name, when in manifests(copy).items() if when != before.get(name)}
    assert {name for name in new if not name.startswith("report-")} == {lost}
    assert decisions(copy, study_id) == decisions(results, study_id)


@pytest.mark.slow
def test_switching_takes_the_first_safe_method(guarded, bounds, limit):
    """Another method makes the edit; where that one is asked for anyway, one edit serves both."""
    study_id, results, _ = guarded("switch", switch_to=["c_rome", "p_rome"])
    known = {(row["request_id"], row["method"]): row["bound"] for row in bounds[0].rows(named=True)}
    found, made = decisions(results, study_id), edits(results, study_id)
    for (request, method), row in found.items():
        safe = [name for name in (method, "c_rome", "p_rome") if known[request, name] < limit]
        assert row["made_method"] == (safe[0] if safe else None)
        if safe and safe[0] != method:
            assert row["decision"] == "switched"
            assert made[row["edit_id"]]["method"] == safe[0]
    assert "switched" in {row["decision"] for row in found.values()}
    ids = [row["edit_id"] for row in found.values() if row["edit_id"]]
    assert set(ids) == made.keys()
    assert len(set(ids)) < len(ids)


def test_prefixed_edits_are_made_behind_a_text(prefixed, limit):
    """Such an edit has its own request, which the views show with the record's case and place."""
    study_id, results, _ = prefixed
    made = edits(results, study_id)
    behind = [row for row in decisions(results, study_id).values() if row["decision"] == "prefixed"]
    assert behind
    for row in behind:
        edit = made[row["edit_id"]]
        assert row["made_prompt"] == edit["prompt"] != row["prompt"]
        assert edit["prompt"].endswith(row["prompt"])
        assert edit["request_id"] != row["request_id"]
        for column in ("case_id", "record_index", "subject", "target_new"):
            assert edit[column] == row[column] is not None
        assert row["made_bound"] < limit <= row["text_change_bound"]
        assert row["perplexity"] == edit["perplexity"] is not None
    assert {row["dataset"] for row in made.values()} == {"facts"}
    names = ask(results, "select distinct name from datasets order by name").to_series().to_list()
    assert names == ["facts", "facts, prefixed"]
    tried = ask(results, "select count(distinct dataset_id) from datasets").item() - 1
    assert 1 <= tried <= MAX_TRIED
    query = f"from studies where study_id = '{study_id}'"
    assert '"policy": "prefix"' in ask(results, query)["settings"].item()


def test_report_says_what_the_guard_did(prefixed, first_run):
    """The guard's part is there with its counts; a study without a guard has none."""
    from reports.sections import report_sections
    from storage.ask import findings

    study_id, results, _ = prefixed
    found = findings(results, study_id)
    assert found.n_requests <= N_REQUESTS
    (part,) = [part for part in report_sections(found) if part.name == "guard"]
    assert "puts a text before the prompt" in part.sentences[0]
    asked = part.table.columns.index("asked")
    assert [row[asked] for row in part.table.rows] == [str(N_REQUESTS)] * len(_METHODS)
    assert ask(results, part.sql).height == len(_METHODS)
    plain = report_sections(findings(results, first_run.study_id))
    assert "guard" not in {part.name for part in plain}


def test_plan_counts_what_the_guard_lets_be_made(refused, guarded, tmp_path, capsys):
    """`plan` names the guard; all units of a study that has run are cached, also split ones."""
    _, results, spec = refused
    assert main(["plan", str(spec), "--results", str(results)]) == 0
    out = capsys.readouterr().out
    assert "guard: refuse from a change bound of" in out
    assert "thresholds of the study file" in " ".join(out.split())
    assert "forecasts            4 cached, 0 to run" in out
    for kind in ("edit batches", "evaluation batches"):
        (line,) = [line for line in out.splitlines() if line.startswith(f"  {kind}")]
        assert line.endswith(", 0 to run")
        assert " 0 cached" not in line
    assert main(["plan", str(spec), "--results", str(tmp_path)]) == 0
    assert "forecasts            0 cached, 4 to run" in capsys.readouterr().out


@pytest.mark.slow
def test_guarded_edits_are_measured_on_other_texts(prefixed, study, tmp_path):
    """A re-evaluation takes the edits that the guard let be made, with the same decisions."""
    from flows.reevaluation import reevaluate

    study_id, results, spec = prefixed
    copy = shutil.copytree(results, tmp_path / "results", copy_function=shutil.copy2)
    texts = tmp_path / "other.json"
    texts.write_text('["The old river is near the place ."]')
    before = units_computed(copy)
    again = reevaluate(read_study(spec), EvaluationSpec(texts=str(texts)), str(copy))
    new = {unit.partition("-")[0] for unit in units_computed(copy) if unit not in before}
    assert new == {"study", "unedited", "evaluation"}
    assert edits(copy, again).keys() == edits(results, study_id).keys()
    old = {key: row["decision"] for key, row in decisions(results, study_id).items()}
    assert {key: row["decision"] for key, row in decisions(copy, again).items()} == old


@pytest.mark.slow
def test_nothing_is_made_where_all_is_refused(guarded):
    """With a threshold below all bounds a study ends without an edit, and says so."""
    study_id, results, _ = guarded("refuse", at_risk_at=1e-9)
    assert edits(results, study_id) == {}
    assert {row["decision"] for row in decisions(results, study_id).values()} == {"refused"}


def test_guard_is_part_of_the_study_and_absence_is_not(study, tmp_path):
    """Each guard makes another study; edits, and all ids of a study without one, stay."""
    plain = plan_study(read_study(study), tmp_path)
    ids = {plain.study_id}
    for fields in ({}, {"guard.acts_at": "will collapse"}, {"guard.policy": "switch"}):
        spec = write_toml(tmp_path / "g.toml", **{"guard.policy": "refuse", **fields})
        spec.rename(study.with_name("one_guard.toml"))
        plan = plan_study(read_study(study.with_name("one_guard.toml")), tmp_path)
        assert plan.models[0].moment.key == plain.models[0].moment.key
        ids.add(plan.study_id)
    assert len(ids) == 4


def test_thresholds_are_those_of_the_models_calibration(refused, study, tmp_path, capsys):
    """Without thresholds of its own it acts by the newest calibration by the study's rule."""
    from flows.run.guard_steps import plan_guarded

    _, results, _ = refused
    copy = shutil.copytree(results, tmp_path / "results", copy_function=shutil.copy2)
    spec = study.with_name("calibrated.toml")
    write_toml(spec, **{"guard.policy": "refuse"})
    default = plan_guarded(read_study(spec), str(copy))
    assert default.models[0].guard.thresholds.is_default
    ratios = ask(copy, "select perplexity_ratio from forecast_outcomes order by all").to_series()
    between = str((ratios[0] + ratios[-1]) / 2)
    assert main(["calibrate", "--results", str(copy), "--ratio", between]) == 0
    capsys.readouterr()
    assert plan_guarded(read_study(spec), str(copy)).models[0].guard.thresholds.is_default
    write_toml(spec, **{"guard.policy": "refuse", "collapse.ratio": float(between)})
    plan = plan_guarded(read_study(spec), str(copy))
    (row,) = ask(copy, "from forecast_calibrations").rows(named=True)
    limits = plan.models[0].guard.thresholds
    assert (limits.calibration_id, limits.at_risk_at) == (row["calibration_id"], row["at_risk_at"])
    assert plan.study_id != default.study_id


def test_example_is_a_guarded_study(tmp_path):
    """studies/guarded.toml is valid, and its guard acts by the file's own thresholds."""
    plan = plan_study(read_study(_ROOT / "studies" / "guarded.toml"), tmp_path)
    guard = plan.models[0].guard
    assert (guard.policy, guard.thresholds.at_risk_at) == ("prefix", 2.5)
