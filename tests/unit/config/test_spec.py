"""Study files: what they may say, and the sentence that a slip gets."""

from pathlib import Path

import pytest

from editcollapse.catalog.presets import ValueSettings
from editcollapse.config.spec import StudySpec, ValueSpec
from editcollapse.config.study_file import read_study, with_absolute_paths
from editcollapse.errors import StudyError

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
