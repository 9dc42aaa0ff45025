"""A tuning's plan: the design, the rungs, which facts are known and held out, what is best."""

import dataclasses
import tomllib
from collections import Counter

import pytest

from editcollapse.catalog.presets import ValueSettings
from editcollapse.config.spec import ModelSpec
from editcollapse.config.study_file import read_study
from editcollapse.data.requests import EditRequest
from editcollapse.errors import DatasetError, StudyError
from editcollapse.rows.tuning import TuningTrialRow
from editcollapse.study.jobs import ModelSetup
from editcollapse.study.plan import plan_study
from editcollapse.study.tuning import (
    CLAMP_FACTORS,
    GREEDY,
    HELD_OUT,
    LEARNING_RATES,
    LEFT_OVER,
    LIKELIER,
    STEPS,
    TUNING,
    UNKNOWN,
    WEIGHT_DECAYS,
    AskedFact,
    Trial,
    TuningSpec,
    best_first,
    best_trial,
    design,
    enough_known,
    facts_of,
    layers_by_depth,
    parted,
    plan_tuning,
    preset_block,
    promoted,
)
from tests.support.small_study import write_tuning_study

_OWN = ValueSettings(steps=25, weight_decay=1e-3)
_SETUP = ModelSetup(
    spec=ModelSpec(name="m", source="m"), model_id="m", layer=5, layer_source="x", values=_OWN
)


def _fact(index, *, first, true=1.0, new=2.0, greedy=True, subject=None):
    name = f"S{index}" if subject is None else subject
    return AskedFact(EditRequest(name, f"{{}} is {index}", "a", "b"), first, greedy, true, new)


def _row(trial, objective, *, rung=0, part=TUNING, worst=1.0, steps=25):
    return TuningTrialRow(
        **dict.fromkeys(
            ("tuning_id", "study", "model_id", "fact_set_id", "evaluation_id", "covariance_id"), "x"
        ),
        model='a "model"',
        part=part,
        rung=rung,
        trial=trial,
        method="c_rome",
        layer=7,
        settings_id="x",
        **dataclasses.asdict(dataclasses.replace(_OWN, steps=steps)),
        n_facts=6,
        n_first_token=3,
        efficacy=0.5,
        efficacy_prefix_mean=0.5,
        first_token_efficacy=0.5,
        first_token_efficacy_prefix_mean=0.5,
        generalization=0.5,
        locality=0.5,
        clamp_share=0.0,
        worst_ratio=worst,
        n_damaged=0,
        n_collapsed=0,
        objective=objective,
        seconds=1.0,
    )


def test_design_begins_with_what_a_study_takes_and_is_balanced():
    """Trial 0 is the set-up itself; of the others each level is drawn equally often."""
    layers = (2, 5, 8)
    trials = list(design(_SETUP, layers, 25, seed=0))
    assert (trials[0].layer, trials[0].values) == (5, _OWN)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert len({(trial.layer, trial.values) for trial in trials}) == len(trials)
    others = trials[1:]
    assert len(others) == 24
    for levels, name in (
        (LEARNING_RATES, "learning_rate"),
        (STEPS, "steps"),
        (CLAMP_FACTORS, "clamp_factor"),
        (WEIGHT_DECAYS, "weight_decay"),
    ):
        found = Counter(getattr(trial.values, name) for trial in others)
        assert found == dict.fromkeys(levels, 24 // len(levels))
    assert Counter(trial.layer for trial in others) == dict.fromkeys(layers, 8)
    assert {trial.values.kl_factor for trial in others} == {_OWN.kl_factor}


def test_design_depends_on_the_seed_alone():
    """Equal seeds give equal trials; a shorter design is of the same levels."""
    same = [list(design(_SETUP, (2, 5), 9, seed=3)) for _ in range(2)]
    assert same[0] == same[1]
    assert same[0] != list(design(_SETUP, (2, 5), 9, seed=4))
    assert list(design(_SETUP, (5,), 1, seed=0)) == [same[0][0]]


@pytest.mark.parametrize(
    ("n_layers", "layers"),
    [(1, (0,)), (2, (1,)), (3, (1,)), (4, (1, 2)), (12, (1, 3, 4, 5, 7)), (30, (1, 5, 9, 13, 17))],
)
def test_layers_lie_in_the_first_part_of_the_blocks(n_layers, layers):
    """Five of them at most, each once, from near the start to 60 %."""
    assert layers_by_depth(n_layers) == layers


def test_a_subject_is_in_one_part_and_rungs_have_both_kinds():
    """Facts of a subject stay together; halves are equal, kinds alternate, the rest is told."""
    facts = [
        _fact(i, first=first, subject=f"{'F' if first else 'O'}{i % 15}")
        for first in (True, False)
        for i in range(30)
    ]
    facts += [_fact(100 + i, first=False, true=3.0) for i in range(4)]
    rows = parted(facts, "set", "model", 24, seed=0)
    assert Counter(row.part for row in rows) == {
        TUNING: 12,
        HELD_OUT: 12,
        LEFT_OVER: 36,
        UNKNOWN: 4,
    }
    subject_of = {fact.request.request_id: fact.request.subject for fact in facts}
    by_part = {
        part: {subject_of[row.request_id] for row in rows if row.part == part}
        for part in (TUNING, HELD_OUT)
    }
    assert not by_part[TUNING] & by_part[HELD_OUT]
    is_first = {row.request_id: row.is_first_token for row in rows}
    for part in (TUNING, HELD_OUT):
        kinds = [is_first[request_id] for request_id in facts_of(rows, part)]
        assert kinds == [True, False] * 6
    assert {row.known_by for row in rows} == {GREEDY}
    assert rows == parted(facts, "set", "model", 24, seed=0)
    assert rows != parted(facts, "set", "model", 24, seed=1)


def test_where_one_kind_is_rare_the_other_fills_up():
    """Three first-token facts are used, and as many others as are wanted."""
    facts = [_fact(i, first=i < 3) for i in range(40)]
    rows = parted(facts, "set", "model", 20, seed=0)
    used = [row for row in rows if row.part in {TUNING, HELD_OUT}]
    assert len(used) == 20
    assert sum(row.is_first_token for row in used) == 3


def test_the_laxer_rule_counts_where_the_strict_one_leaves_too_few():
    """Greedy knowledge where there is enough of it; else the likelier object; else an error."""
    few = [_fact(i, first=False, greedy=i < 11) for i in range(20)]
    assert {row.known_by for row in parted(few, "s", "m", 12, seed=0)} == {LIKELIER}
    enough = [_fact(i, first=False, greedy=i < 12) for i in range(20)]
    rows = parted(enough, "s", "m", 12, seed=0)
    assert {row.known_by for row in rows} == {GREEDY}
    assert sum(row.part == UNKNOWN for row in rows) == 8
    # An object that is said word by word but less likely than the new one is not known either.
    odd = [_fact(i, first=False, true=3.0) for i in range(20)]
    with pytest.raises(DatasetError, match=r"of 20 facts the unedited model knows 0: .* --facts"):
        parted(odd, "s", "m", 12, seed=0)


def test_asking_stops_when_both_kinds_are_known_well_enough():
    """Half of the facts of each kind, by the strict rule."""
    known = [_fact(i, first=i % 2 == 0) for i in range(12)]
    assert enough_known(known, 12)
    assert not enough_known(known[:-1], 12)
    assert not enough_known([*known[:-1], _fact(11, first=False, greedy=False)], 12)


def test_best_is_of_the_last_rung_and_ties_fall_to_less_damage_then_fewer_steps():
    """A better score on fewer facts does not count, nor one on held-out facts."""
    rows = [
        _row(0, 0.9),
        _row(1, 0.5, rung=1, worst=1.5),
        _row(2, 0.5, rung=1, worst=1.2, steps=40),
        _row(3, 0.5, rung=1, worst=1.2),
        _row(4, 0.5, rung=1, worst=float("nan")),
        _row(5, 0.99, rung=2, part=HELD_OUT),
    ]
    assert best_trial(rows).trial == 3
    ranked = best_first([row for row in rows if row.rung == 1])
    assert [row.trial for row in ranked] == [3, 2, 1, 4]
    assert [row.trial for row in promoted(ranked)] == [3, 2]
    with pytest.raises(StudyError, match="no trial has been measured"):
        best_trial(rows[-1:])


def test_preset_is_what_a_study_file_takes():
    """The block is TOML, its name quoted, and its settings are the trial's."""
    row = _row(3, 0.5)
    (found,) = tomllib.loads(preset_block(row))["models"]
    spec = ModelSpec.model_validate({**found, "name": "m", "source": "m"})
    assert found["name"] == 'a "model"'
    assert spec.layer == 7
    assert spec.value.over(ValueSettings()) == _OWN


def test_a_neighbour_is_one_level_off_and_new(tmp_path):
    """Layer and settings move one level at a time, nothing is tried twice, and numbers go on."""
    study = write_tuning_study(tmp_path)
    plan = plan_study(read_study(study), tmp_path / "results")
    (tuning,) = plan_tuning(plan, TuningSpec(trials=8, layers="0-2"))
    assert (len(tuning.trials), tuning.n_neighbours) == (4, 4)
    settings = dataclasses.replace(_OWN, learning_rate=0.2, steps=40, clamp_factor=16.0)
    best = Trial(3, 1, settings)
    found = tuning.neighbours(best, tuning.trials)
    assert [trial.number for trial in found] == [4, 5, 6, 7]
    steps = {(trial.layer, trial.values) for trial in found}
    assert steps == {
        (2, settings),
        (0, settings),
        (1, dataclasses.replace(settings, learning_rate=0.5)),
        (1, dataclasses.replace(settings, learning_rate=0.1)),
    }
    tried = [*tuning.trials, dataclasses.replace(found[0], number=4)]
    assert [trial.number for trial in tuning.neighbours(best, tried)] == [5, 6, 7]
    assert found[0].layer not in {each.layer for each in tuning.neighbours(best, tried)}
    assert tuning.neighbours(best, [*tried, *found[1:]]) == []
