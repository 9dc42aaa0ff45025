"""A tuning: cached trials of ordinary jobs, held-out facts, a page, and what the command says."""

import json
import shutil
import tomllib
from collections import Counter

import pytest

from editcollapse.config.study_file import read_study
from editcollapse.study.tuning import TuningSpec
from flows.__main__ import USER_ERROR, main
from storage.ask import ask
from storage.readers import known_setups
from tests.support.flow_runs import units_computed
from tests.support.small_study import write_tuning_study

_SPEC = TuningSpec(trials=4, facts=28, layers="0-1")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Return the study file of facts that are enough for a tuning."""
    return write_tuning_study(tmp_path_factory.mktemp("tuning"))


@pytest.fixture(scope="module")
def tuned(backend, inputs, tmp_path_factory):
    """Return the results folder of a tuning."""
    from flows.tuning_flow import tune_settings

    results = tmp_path_factory.mktemp("tuned") / "results"
    (tuning_id,) = tune_settings(read_study(inputs), _SPEC, str(results))
    assert ask(results, "select distinct tuning_id from tuning_trials").item() == tuning_id
    return results


def test_rungs_halve_and_the_winner_is_measured_on_held_out_facts(tuned):
    """All trials on 7 facts, the better third on 14, then trial 0 and the best on the others."""
    query = """
        select part, rung, method, n_facts, count(*) as n, count(distinct trial) as m
        from tuning_trials group by all order by rung, method
    """
    rows = ask(tuned, query).rows()
    assert rows[:2] == [("tuning", 0, "c_rome", 7, 4, 4), ("tuning", 1, "c_rome", 14, 2, 2)]
    best = ask(
        tuned,
        "select trial from tuning_trials where part = 'tuning' and rung = 1 "
        "order by objective desc, worst_ratio, steps, trial limit 1",
    ).item()
    n = len({0, best})
    assert rows[2:] == [
        ("held-out", 2, "c_rome", 14, n, n),
        ("held-out", 2, "rome", 14, n, n),
    ]
    held_out = ask(tuned, "select distinct trial from tuning_trials where part = 'held-out'")
    assert set(held_out["trial"]) == {0, best}


def test_facts_are_parted_by_subject_and_counted(tuned):
    """No subject that is tuned on is held out; what the model does not know is left out."""
    query = """
        select part, subject, count(*) as n, bool_and(target_true_nll < target_new_nll) as known
        from tuning_facts inner join requests using (request_id) group by all
    """
    rows = ask(tuned, query).rows(named=True)
    by_part = {}
    for row in rows:
        by_part.setdefault(row["part"], set()).add(row["subject"])
        assert row["known"] is (row["part"] != "not known") or row["part"] == "not known"
    assert not by_part["tuning"] & by_part["held-out"]
    assert by_part["not known"]
    edited = """
        select distinct part, t.request_id
        from tuning_facts t inner join edits using (request_id)
    """
    counts = Counter(ask(tuned, edited)["part"])
    assert counts == {"tuning": 14, "held-out": 14}


@pytest.mark.slow
def test_trials_have_the_ids_of_any_study(tuned, inputs, tmp_path):
    """A study with the winner's settings has the edits that the tuning has made, by id."""
    from flows.study import collapse_study

    best = ask(
        tuned,
        "select layer, steps, learning_rate, weight_decay, clamp_factor, settings_id "
        "from tuning_trials where part = 'held-out' and trial > 0 or trial = 0 "
        "order by trial desc limit 1",
    ).row(0, named=True)
    settings_id = best.pop("settings_id")
    layer = best.pop("layer")
    study = read_study(inputs)
    (model,) = study.models
    value = model.value.model_copy(update=best)
    asked = study.model_copy(
        update={"models": (model.model_copy(update={"layer": layer, "value": value}),)}
    )
    results = shutil.copytree(tuned, tmp_path / "results", copy_function=shutil.copy2)
    edits = "select edit_id, update_norm, settings_id, layer from edits where method = 'c_rome'"
    own = {"settings_id": settings_id, "layer": layer}
    before = ask(results, edits).filter(**own)
    assert before.height > 0
    collapse_study(asked, str(results))
    after = ask(results, edits).filter(**own)
    both = before.join(after, on="edit_id", suffix="_after")
    assert both.height == before.height
    change = (both["update_norm_after"] / both["update_norm"] - 1).abs()
    assert change.max() < 1e-4  # batches of another size


def test_what_was_tried_is_no_set_up_of_studies(tuned):
    """One edit after a tuning is made as a study would make it: as trial 0, by its settings."""
    model_id, settings_id = ask(
        tuned, "select distinct model_id, settings_id from tuning_trials where trial = 0"
    ).row(0)
    assert [each.settings_id for each in known_setups(tuned, model_id)] == [settings_id]


def test_second_tuning_computes_nothing(tuned, inputs):
    """Run again, everything is found, and the run says so."""
    from flows.tuning_flow import tune_settings

    before = units_computed(tuned)
    state = tune_settings(read_study(inputs), _SPEC, str(tuned), return_state=True)
    assert "Nothing had to be computed" in state.message
    assert state.message.startswith("tiny: layer ")
    assert units_computed(tuned) == before


@pytest.mark.slow
def test_killed_tuning_goes_on(tuned, inputs, tmp_path, monkeypatch):
    """After a stop in the middle only what is missing is computed, and the scores are the same."""
    from flows.run import trial_steps
    from flows.tuning_flow import tune_settings

    results = tmp_path / "results"
    real, n_asked = trial_steps.TrialEdits.of, []

    def stopping(*given):
        n_asked.append(given)
        if len(n_asked) > 2:
            raise KeyboardInterrupt
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(trial_steps.TrialEdits, "of", stopping)
        with pytest.raises(KeyboardInterrupt):
            tune_settings(read_study(inputs), _SPEC, str(results))
    kept = units_computed(results)
    assert sum(unit.startswith("edits-") for unit in kept) == 3
    tune_settings(read_study(inputs), _SPEC, str(results))
    again = units_computed(results)
    assert set(again.values()) == {1}
    query = "select * exclude (seconds) from tuning_trials order by rung, trial, method"
    assert ask(results, query).equals(ask(tuned, query))


@pytest.mark.slow
def test_spent_budget_ends_a_rung_and_still_holds_out(backend, inputs, tmp_path):
    """With no time each rung makes one trial, the one that a study would take."""
    from flows.tuning_flow import tune_settings

    spec = _SPEC.model_copy(update={"budget_minutes": 1e-9})
    results = tmp_path / "results"
    tune_settings(read_study(inputs), spec, str(results))
    found = ask(results, "select part, rung, trial from tuning_trials order by all").rows()
    assert found == [
        ("held-out", 2, 0),
        ("held-out", 2, 0),
        ("tuning", 0, 0),
        ("tuning", 1, 0),
    ]


def _command(inputs, results, *more):
    folder = inputs.parent
    return [
        *("tune", str(folder / "model"), "--facts", str(folder / "facts.json")),
        *("--covariance", str(folder / "corpus.txt"), "--tokens", "400"),
        *("--texts", str(folder / "texts.json"), "--results", str(results)),
        *("--trials", "2", "--n-facts", "12", "--layers", "1"),
        *more,
    ]


@pytest.mark.slow
def test_command_prints_before_and_after_and_a_preset(backend, inputs, tmp_path, capsys):
    """In words and as JSON; the page lies where it says, and the list of reports has it."""
    results = tmp_path / "results"
    assert main(_command(inputs, results)) == 0
    out = capsys.readouterr().out
    assert "facts the unedited model does not know" in out
    assert "without a tuning" in out
    block = out[out.index("[[models]]") : out.index("\ntime:")]
    (model,) = tomllib.loads(block)["models"]
    assert set(model["value"]) == {"steps", "learning_rate", "weight_decay", "clamp_factor"}
    assert main(_command(inputs, results, "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert tomllib.loads(report["preset"])["models"] == [model]
    assert report["facts"]["n_tuning"] == report["facts"]["n_held_out"] == 6
    page = (results / report["report"].removeprefix(f"{results}/")).read_text()
    assert "layer = 1" in page
    assert "Before and after" in page
    assert "(tuning).html" in (results / "reports" / "index.html").read_text()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--layers", "7"), "layer 7 of model"),
        (("--trials", "0"), "--trials 0"),
        (("--n-facts", "4"), "--n-facts 4"),
        (("--budget", "0"), "--budget 0"),
    ],
)
def test_mistakes_are_told_before_anything_runs(inputs, tmp_path, capsys, more, sentence):
    """One sentence, with the option that was given."""
    results = tmp_path / "results"
    assert main(_command(inputs, results, *more)) == USER_ERROR
    assert sentence in capsys.readouterr().err
    assert not results.exists()
