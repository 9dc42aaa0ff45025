"""Study files: what they may say, and the sentence that a slip gets."""

from pathlib import Path

import pytest

from editcollapse.catalog.presets import ValueSettings
from editcollapse.config.spec import DEFAULT_COVARIANCE, StudySpec, ValueSpec
from editcollapse.config.study_file import read_study, with_absolute_paths
from editcollapse.errors import StudyError
from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule

STUDY = """
name = "small"
seed = 4
methods = ["rome", "v_relative"]
batch_size = 8

[[models]]
name = "one"
source = "models/one"
layer = 2
dtype = "float64"

[[models]]
name = "two"
source = "owner/two"

[dataset]
path = "requests.json"
limit = 5
case_ids = ["1", "2"]

[templates]
kind = "file"
path = "templates.json"

[covariance]
source = "corpus.txt"
n_tokens = 500
damping = 0.01

[value]
steps = 3
stop_loss = 0.1

[evaluation]
texts = "texts.jsonl"
max_texts = 7
"""


def write(folder, text=STUDY):
    """Write a study file and one local model folder; return the file."""
    (folder / "models" / "one").mkdir(parents=True, exist_ok=True)
    (folder / "corpus.txt").touch()
    path = folder / "study.toml"
    path.write_text(text)
    return path


def refused(folder, old, new):
    """Return the message with which a changed study is refused."""
    assert old in STUDY
    with pytest.raises(StudyError) as caught:
        read_study(write(folder, STUDY.replace(old, new)))
    return str(caught.value)


def test_round_trip_through_toml(tmp_path):
    """What the file says is what the spec holds; as JSON and back it is the same spec."""
    study = read_study(write(tmp_path))
    assert study.name == "small"
    assert study.methods == ("rome", "v_relative")
    assert study.models[0].layer == 2
    assert study.covariance.damping == 0.01
    assert study.dataset.case_ids == ("1", "2")
    assert study.value.over(ValueSettings()) == ValueSettings(steps=3, stop_loss=0.1)
    assert StudySpec.model_validate_json(study.model_dump_json()) == study


def test_paths_are_made_absolute_beside_the_file(tmp_path):
    """Relative paths belong to the study file; a hub id that is no folder stays as it is."""
    study = read_study(write(tmp_path))
    assert study.models[0].source == str(tmp_path / "models" / "one")
    assert study.models[1].source == "owner/two"
    assert study.dataset.path == str(tmp_path / "requests.json")
    assert study.covariance.source == str(tmp_path / "corpus.txt")
    assert with_absolute_paths(study, Path("/elsewhere")) == study


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size", "batchsize", "unknown field `batchsize`; allowed: batch_size,"),
        ("layer = 2", "layr = 2", "unknown field `models.0.layr`; allowed: layer,"),
        ("damping", "dampng", "unknown field `covariance.dampng`; allowed: damping,"),
        ("damping", "value = 1\ndamping", "unknown field `covariance.value`; allowed: "),
        ("layer = 2", "value = {step = 1}", "unknown field `models.0.value.step`; allowed: steps,"),
        ("steps", "step", "unknown field `value.step`; allowed: steps,"),
        ('"v_relative"', '"c_rom"', "no method 'c_rom'; known: c_rome, r_rome"),
        ('dtype = "float64"', 'dtype = "double"', "`models.0.dtype`: "),
        ("layer = 2", "layer = -1", "`models.0.layer`: "),
        ("batch_size = 8", "batch_size = 0", "`batch_size`: "),
        ('source = "corpus.txt"', "", 'kind "corpus" needs `source`'),
        ('path = "templates.json"', "", 'templates of kind "file" need `path`'),
        ('"v_relative"', '"rome"', "methods must be distinct and at least one"),
        ('["rome", "v_relative"]', "[]", "methods must be distinct and at least one"),
        ('name = "two"', 'name = "one"', "model names must be distinct"),
        ('name = "small"', "", "`name`: "),
        (
            'source = "corpus.txt"',
            'kind = "statistics"',
            "needs `statistics` in each model; ['one', 'two'] have none",
        ),
    ],
)
def test_slips_are_named(tmp_path, old, new, message):
    """A typo or an impossible value is refused by its place, with what is allowed."""
    assert message in refused(tmp_path, old, new)


def test_covariance_and_texts_may_be_left_out(tmp_path):
    """Then C is of the hub's WikiText, and the texts are the package's."""
    text = STUDY.split("[covariance]", maxsplit=1)[0]
    study = read_study(write(tmp_path, text))
    assert study.covariance == DEFAULT_COVARIANCE
    assert study.covariance.n_tokens == 100_000
    assert study.evaluation.texts is None


def test_models_are_needed(tmp_path):
    """A study without a model edits nothing."""
    text = (
        STUDY.split("[[models]]", maxsplit=1)[0]
        + "models = []\n[dataset]"
        + STUDY.split("[dataset]")[1]
    )
    with pytest.raises(StudyError, match="a study needs at least one model"):
        read_study(write(tmp_path, text))


def test_several_slips_are_told_together(tmp_path):
    """All that is wrong with a file is said at once."""
    message = refused(tmp_path, "seed = 4", "sed = 4\nmethodss = 1")
    assert "`sed`" in message
    assert "`methodss`" in message


@pytest.mark.parametrize("written", ['["1", "2"]', "[1, 2]", '[1, "2"]'])
def test_case_ids_are_integers_or_strings(tmp_path, written):
    """Case ids may be written as CounterFact's file has them, or as text; both are the same ids."""
    path = write(tmp_path, STUDY.replace('["1", "2"]', written))
    assert read_study(path).dataset.case_ids == ("1", "2")


@pytest.mark.parametrize("written", ["[nan]", "[inf]", "[1.5]", "[true]", "[[1]]"])
def test_what_is_no_case_id_is_refused(tmp_path, written):
    """What is neither an integer nor a string is no case id."""
    said = refused(tmp_path, 'case_ids = ["1", "2"]', f"case_ids = {written}")
    assert "`dataset.case_ids.0`: Input should be a valid string" in said


def test_other_names_may_be_integers(tmp_path):
    """Names of a study and a model, a revision and a subset may be written as integers."""
    text = STUDY.replace('name = "small"', "name = 2026").replace('name = "one"', "name = 1")
    text = text.replace("layer = 2", "layer = 2\nrevision = 1234567")
    study = read_study(write(tmp_path, text.replace("n_tokens", "subset = 103\nn_tokens")))
    assert (study.name, study.models[0].name) == ("2026", "1")
    assert (study.models[0].revision, study.covariance.subset) == ("1234567", "103")


def test_many_mistakes_are_a_line_each(tmp_path):
    """Twelve mistakes are the first five, a line each, and the number of the others."""
    said = refused(tmp_path, '["1", "2"]', str([index + 0.5 for index in range(12)]))
    head, *lines = said.splitlines()
    assert head.endswith("study.toml has 12 mistakes:")
    assert [line.split("`")[1] for line in lines[:-1]] == [
        f"dataset.case_ids.{index}" for index in range(5)
    ]
    assert lines[-1] == "  and 7 more."


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("", CollapseRule(1000, 10)),
        ("threshold = 50", CollapseRule(50, 10)),
        ("ratio = 3.5", CollapseRule(1000, 3.5)),
        ("threshold = 50\nratio = 3", CollapseRule(50, 3)),
        ('measure = "nll"', CollapseRule(measure="nll")),
    ],
)
def test_a_study_may_state_the_collapse_rule(tmp_path, written, rule):
    """What the study leaves out of the rule is the default."""
    assert read_study(write(tmp_path, f"{STUDY}[collapse]\n{written}")).collapse.rule == rule
    assert read_study(write(tmp_path)).collapse.rule == DEFAULT_RULE == CollapseRule()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("threshold = 0", "`collapse.threshold`: Input should be greater than 0"),
        ("ratio = -1", "`collapse.ratio`: Input should be greater than 0"),
        ("ratio = inf", "`collapse.ratio`: Input should be a finite number"),
        ("threshold = nan", "`collapse.threshold`: Input should be a finite number"),
        ('measure = "max"', "`collapse.measure`: Input should be 'mean', 'nll' or 'median'"),
        ("treshold = 5", "unknown field `collapse.treshold`; allowed: threshold, measure, ratio"),
    ],
)
def test_impossible_collapse_rule_is_refused(tmp_path, written, said):
    """Both bounds are positive and finite, and a typo is named."""
    assert said in refused(tmp_path, "[value]", f"[collapse]\n{written}\n[value]")


def test_no_file_and_no_toml(tmp_path):
    """A file that is missing or is not TOML is refused with its path."""
    with pytest.raises(StudyError, match=r"no study file .*none\.toml"):
        read_study(tmp_path / "none.toml")
    with pytest.raises(StudyError, match=r"study\.toml is not TOML"):
        read_study(write(tmp_path, "name = "))


def test_overrides_leave_the_rest_to_the_preset():
    """What a study does not say comes from the published settings; a zero is said."""
    base = ValueSettings(clamp_factor=3.0)
    assert ValueSpec().over(base) == base
    assert ValueSpec(weight_decay=0.0).over(base) == ValueSettings(
        clamp_factor=3.0, weight_decay=0.0
    )
