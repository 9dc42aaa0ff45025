"""A study of one's own inputs: as an object and as a file it is the same study."""

import sys
import tomllib
import types
from pathlib import Path

import pytest

from editcollapse.catalog.presets import UNPUBLISHED
from editcollapse.config.spec import DEFAULT_COVARIANCE, EvaluationSpec
from editcollapse.config.study_file import read_study
from editcollapse.data.texts import NEUTRAL_TEXTS
from editcollapse.errors import DatasetError, ModelError, MomentError
from editcollapse.models import files
from editcollapse.study.own_study import OwnInputs, own_study, study_file_text
from editcollapse.study.plan import plan_study
from tests.support.study_files import write_study


@pytest.fixture
def inputs(tiny_folder, tmp_path, monkeypatch):
    """Return a function that names the small study's inputs, from the folder they lie in."""
    write_study(tmp_path / "inputs", tiny_folder("gpt2"))
    monkeypatch.chdir(tmp_path / "inputs")

    def name(**changes):
        given = {"model": "model", "dataset": "requests.json", "covariance": "corpus.txt"}
        return OwnInputs(**(given | changes))

    return name


@pytest.fixture
def written(inputs, tmp_path):
    """Return a function that writes a study of the inputs to a folder: the study, and the file."""

    def write(folder=".", **changes):
        own = own_study(inputs(**changes))
        path = Path(folder) / "mine.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(study_file_text(own, path.parent))
        return own, path

    return write


@pytest.fixture
def hub(monkeypatch):
    """Let the default corpus be there, as the package ``datasets`` would give it."""
    split = types.SimpleNamespace(num_examples=1)
    info = types.SimpleNamespace(splits={"train": split})
    builder = types.SimpleNamespace(hash="abc", info=info)
    asked = []

    def load_dataset_builder(source, name=None):
        asked.append((source, name))
        return builder

    module = types.SimpleNamespace(load_dataset_builder=load_dataset_builder)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


@pytest.mark.parametrize("folder", [".", "studies", "../beside", "../../far/away"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"limit": 2, "layer": 1, "methods": ("rome", "p_rome"), "texts": "texts.json"},
        {"covariance": "identity", "dtype": "float64", "start_token": "never"},
        {"tokens": 9, "damping": 1e-5},
    ],
)
def test_file_and_options_make_one_study(written, tmp_path, folder, changes):
    """Wherever the file lies it says the same study, so that all ids are the same."""
    own, path = written(folder, **changes)
    study = read_study(path)
    assert study == own.study
    results = tmp_path / "results"
    assert plan_study(study, results).study_id == plan_study(own.study, results).study_id


def test_paths_near_the_file_are_relative(written):
    """A folder with a study and its inputs may be moved."""
    _, path = written("studies", texts="texts.json")
    found = tomllib.loads(path.read_text())
    assert found["models"][0]["source"] == "../model"
    assert found["dataset"]["path"] == "../requests.json"
    assert found["covariance"]["source"] == "../corpus.txt"
    assert found["evaluation"]["texts"] == "../texts.json"


def test_names_with_quotes_and_signs_are_escaped(written, tmp_path):
    """A file name is text in TOML, whatever is in it."""
    strange = 'a"b\\c # [x]\u007f\té.json'
    Path("requests.json").rename(strange)
    own, path = written(dataset=strange)
    assert read_study(path) == own.study


def test_layer_is_by_depth_where_none_is_published(inputs):
    """The layer is written down, and where it comes from is known."""
    own = own_study(inputs())
    assert own.study.models[0].layer == 1
    assert own.layer_source == UNPUBLISHED
    assert own_study(inputs(layer=2)).layer_source == "asked for"


def test_defaults_are_wikitext_and_neutral_english(inputs, hub, written):
    """With nothing named the corpus is the hub's, which the file says, and the texts our own."""
    own, path = written(covariance=None)
    assert own.study.covariance == DEFAULT_COVARIANCE
    assert own.study.evaluation == EvaluationSpec()
    assert own.texts.name == NEUTRAL_TEXTS.stem
    assert hub[0] == ("Salesforce/wikitext", "wikitext-103-raw-v1")
    assert 'source = "Salesforce/wikitext"' in path.read_text()


def test_default_corpus_that_cannot_be_had_says_what_to_name(inputs, monkeypatch):
    """Without the package, or the hub, one error names the option and the field."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DatasetError) as found:
        own_study(inputs(covariance=None))
    assert "pip install datasets" in str(found.value)
    assert "--covariance FILE" in str(found.value)
    assert "[covariance]" in str(found.value)


def test_hub_id_that_is_a_path_there_is_refused(inputs, monkeypatch, tmp_path):
    """Where the file would find a folder in the place of a hub id, it is not written."""
    monkeypatch.setattr(files, "_download", lambda *_: tmp_path / "inputs" / "model")
    own = own_study(inputs(model="a/b"))
    assert own.study.models[0].source == "a/b"
    assert 'source = "a/b"' in study_file_text(own, tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(ValueError, match="the hub id a/b is also the path"):
        study_file_text(own, tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"model": "./none"}, ModelError, "no model folder ./none"),
        ({"layer": 9}, ModelError, "`layer` 9: model has layers 0 to"),
        ({"dataset": "none.json"}, DatasetError, "none.json"),
        ({"dataset": "texts.json"}, DatasetError, "texts"),
        ({"limit": 0}, DatasetError, "0 records"),
        ({"covariance": "none.txt"}, DatasetError, "`covariance` none.txt"),
        ({"covariance": "none.npz"}, MomentError, "`covariance` none.npz"),
        ({"tokens": 9}, MomentError, "`tokens` 9"),
        ({"texts": "none.json"}, DatasetError, "none.json"),
    ],
)
def test_inputs_are_checked_first(inputs, changes, error, said):
    """What is missing or wrong is named before anything is written."""
    with pytest.raises(error) as found:
        own_study(inputs(**changes))
    assert said in str(found.value)
