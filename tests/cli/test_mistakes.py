"""A user's mistake is one sentence on stderr and exit status 2, before any server starts."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from flows.__main__ import USER_ERROR, main
from tests.support.small_study import fact, write_toml


@pytest.fixture
def inputs(study: Path, tmp_path: Path) -> Path:
    """Return a folder with the small study and its inputs, free to be spoiled."""
    return shutil.copytree(study.parent, tmp_path / "inputs")


@pytest.fixture
def mistake(inputs, tmp_path, capsys):
    """Return a function that runs a study and returns what the user is told about a mistake."""

    def printed_error(**changes) -> str:
        study = write_toml(inputs / "study.toml", **changes)
        return _printed_error(capsys, "run", str(study), "--results", str(tmp_path / "results"))

    return printed_error


def _printed_error(capsys, *arguments: str) -> str:
    """Run a command that has to fail; return its sentence."""
    assert main(arguments) == USER_ERROR
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"batch_sise": 2}, ["unknown field `batch_sise`", "allowed: batch_size"]),
        ({"models.sorce": "x"}, ["`models.0.sorce`", "allowed: source"]),
        ({"methods": ["rome", "c-rome"]}, ["no method 'c-rome'", "known: c_rome"]),
        ({"methods": []}, ["at least one"]),
        ({"batch_size": 0}, ["`batch_size`", "greater than or equal to 1", "got 0"]),
        ({"dataset.path": "absent.json"}, ["absent.json", "not"]),
        ({"evaluation.texts": "absent.json"}, ["a text set", "absent.json"]),
        ({"covariance.source": "absent.txt"}, ["a corpus", "absent.txt"]),
        ({"covariance.source": None}, ["`covariance`", "needs `source`"]),
        ({"templates.kind": "file"}, ["need `path`"]),
        ({"templates.kind": "file", "templates.path": "absent.json"}, ["absent.json"]),
        ({"models.layer": 3}, ["layer 3 of model 'tiny'", "layers 0 to 2"]),
        ({"models.layer": -1}, ["`models.0.layer`", "greater than or equal to 0"]),
        ({"models.preset": "gpt2-xxl"}, ["no preset 'gpt2-xxl'", "Known: gpt2-xl"]),
        ({"models.preset": "gpt2-xl"}, ["preset 'gpt2-xl' is for"]),
        ({"models.source": "./absent"}, ["no model folder", "absent"]),
        (
            {"covariance.kind": "statistics", "covariance.source": None},
            ["needs `statistics`", "tiny"],
        ),
        (
            {
                "covariance.kind": "statistics",
                "covariance.source": None,
                "models.statistics": "absent.npz",
            },
            ["no statistics file", "absent.npz"],
        ),
        ({"dataset.case_ids": ["77"]}, ["no usable case 77"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_wrong_study_file_is_explained(mistake, changes, fragments):
    """Each wrong entry is named with what was found and what would be right."""
    sentence = mistake(**changes)
    assert all(fragment in sentence for fragment in fragments), sentence


def test_study_that_is_not_toml_is_explained(inputs, capsys):
    """A syntax error in the study file is told with its place."""
    (inputs / "study.toml").write_text("name = \nx")
    sentence = _printed_error(capsys, "run", str(inputs / "study.toml"))
    assert "is not TOML" in sentence
    assert "line 1" in sentence


@pytest.mark.parametrize("command", ["run", "plan"])
def test_missing_study_file_is_explained(tmp_path, capsys, command):
    """A study file that is not there is named."""
    assert "no study file" in _printed_error(capsys, command, str(tmp_path / "absent.toml"))


def test_same_model_name_twice_is_refused(inputs, capsys):
    """Two models of one name are refused."""
    study = write_toml(inputs / "study.toml")
    more = study.read_text() + '\n[[models]]\nname = "tiny"\nsource = "model"\nlayer = 0\n'
    study.write_text(more)
    assert "model names must be distinct" in _printed_error(capsys, "run", str(study))


def test_same_model_twice_is_refused(inputs, capsys):
    """One model under two names would be edited twice: refused."""
    study = write_toml(inputs / "study.toml")
    study.write_text(study.read_text() + '\n[[models]]\nname = "b"\nsource = "model"\nlayer = 1\n')
    assert "the same model" in _printed_error(capsys, "run", str(study))


@pytest.mark.parametrize("content", ["", "[]", '[" ", ""]'])
def test_empty_text_set_is_refused(inputs, mistake, content):
    """A text set without one text is refused by its name."""
    (inputs / "texts.json").write_text(content)
    assert "texts.json" in mistake()


def test_dataset_of_bad_records_is_refused(inputs, mistake):
    """Where no record can be used, the first reasons are told."""
    bad = fact(0)
    del bad["requested_rewrite"]["subject"]
    (inputs / "facts.json").write_text(json.dumps([bad, bad]))
    sentence = mistake()
    assert "none of 2 records" in sentence
    assert "subject" in sentence


def test_unknown_family_is_explained(inputs, mistake):
    """A model of a family without an architecture row is refused with the known families."""
    path = inputs / "model/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"model_type": "gpt3"}))
    sentence = mistake()
    assert "'gpt3'" in sentence
    assert "gpt2" in sentence


def test_pickled_weights_are_refused(inputs, mistake):
    """A model with pickled weights alone is refused, and the way to convert it is told."""
    (inputs / "model/model.safetensors").unlink()
    torch.save({}, inputs / "model/pytorch_model.bin")
    sentence = mistake()
    assert "pytorch_model.bin" in sentence
    assert "Pickles are never loaded" in sentence


def test_cut_weights_are_refused(inputs, mistake):
    """A weight file whose download stopped is refused."""
    path = inputs / "model/model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "model.safetensors is not a whole safetensors file" in mistake()


def test_unwritable_results_folder_is_explained(study, tmp_path, capsys, monkeypatch):
    """A results folder that cannot be made is named, with the option that chooses another."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "file").write_text("")
    assert main(["run", str(study), "--results", str(tmp_path / "file/results")]) == USER_ERROR
    err = capsys.readouterr().err
    assert err.startswith("error: cannot write to the results folder")
    assert "--results" in err
