"""Stored updates of a study: read back they are what was measured; the command takes them home."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from editcollapse.config.spec import ModelSpec
from editcollapse.config.study_file import read_study
from editcollapse.data.texts import read_texts
from editcollapse.errors import ArtifactError, ModelError
from editcollapse.models.loading import load_model
from editcollapse.rome.updates import no_update
from editcollapse.stored.folder import RECORD
from editcollapse.stored.models import base_model
from editcollapse.stored.reading import read_edit, read_sequence, sequence_states
from editcollapse.stored.weights import in_weights
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.units.single import perplexity_of
from flows.__main__ import USER_ERROR, main
from storage.ask import ask
from storage.known_updates import Wanted, known_edits, known_sequences
from tests.support.small_study import write_toml

EDITORS = ["rome", "memit_seq", "prune", "rect"]
STUDY = {
    "models.source": "model",
    "name": "taken",
    "methods": ["rome", "c_rome", "r_rome", "memit", "rect"],
    "dataset.limit": 4,
    "sequence.editors": EDITORS,
    "sequence.orders": 1,
    "sequence.n_edits": 4,
    "sequence.chunk_steps": 3,
    "sequence.checkpoints": [2],
    "covariance.damping": 0.01,
}


@pytest.fixture(scope="module")
def taken(study, backend, tmp_path_factory):
    """Return the results of a study with single edits and sequences; not to be changed."""
    from flows.study import collapse_study

    file = write_toml(study.parent / "taken.toml", **STUDY)
    results = tmp_path_factory.mktemp("taken") / "results"
    collapse_study(read_study(file), str(results))
    return results


@pytest.fixture(scope="module")
def loaded(study):
    """Return the study's model."""
    spec = ModelSpec(name="tiny", source=str(study.parent / "model"))
    return load_model(spec, "cpu")


@pytest.fixture(scope="module")
def perplexity(study, loaded):
    """Return a function that measures the model as its weights are."""
    texts = read_texts(study.parent / "texts.json").texts
    nothing = no_update(loaded.widths)
    return lambda: perplexity_of(loaded, 0, texts, nothing).mean


@pytest.fixture
def export(taken, study):
    """Return a function that calls the command in this process; it returns the exit status."""
    model = str(study.parent / "model")

    def call(*options, knows_model=True):
        where = ("--model", model) if knows_model else ()
        return main(["export", *options, *where, "--results", str(taken)])

    return call


def test_single_edits_are_what_was_measured(taken, loaded, perplexity):
    """Every stored edit, put into the weights, has the perplexity of its row; weights come back."""
    measured = dict(ask(taken, "select edit_id, perplexity from measurements").rows())
    before = {name: each.clone() for name, each in loaded.model.state_dict().items()}
    store, edits = ArtifactStore(taken), known_edits(taken, Wanted())
    stored = [each for each in edits if each.method != "rect"]
    assert len(stored) == 4 * 4
    for known in stored:
        with in_weights(loaded.model, read_edit(store, known)):
            assert perplexity() == pytest.approx(measured[known.edit_id], rel=1e-5)
    assert all(torch.equal(each, before[name]) for name, each in loaded.model.state_dict().items())


@pytest.mark.parametrize("editor", EDITORS)
def test_sequences_are_what_was_measured(taken, loaded, perplexity, editor):
    """After every checkpoint: perplexity, and the norm of what is written, restrained by PRUNE."""
    store = ArtifactStore(taken)
    (known,) = known_sequences(taken, Wanted(method=editor))
    assert [each.step for each in sequence_states(store, known.sequence_id)] == [2, 3, 4]
    rows = ask(
        taken,
        "select sequence_id, step, perplexity, drift_norm from sequence_checkpoints "
        "join sequence_steps using (sequence_id, step) order by step",
    ).filter(sequence_id=known.sequence_id)
    assert rows["step"].to_list() == [2, 4]
    for _, step, expected, norm in rows.iter_rows():
        update = read_sequence(store, known, step, loaded.weight)
        found = math.hypot(*(float(each.matrix.norm()) for each in update.layers))
        assert found == pytest.approx(norm, rel=1e-9)
        with in_weights(loaded.model, update):
            assert perplexity() == pytest.approx(expected, rel=1e-6)
    is_whole = update.layers[0].rank is None
    assert is_whole == (editor == "rect")


def test_missing_files_are_told(taken, tmp_path, study):
    """A file that gc took, and a model that is another one, are refused with a remedy."""
    (known, *_) = known_edits(taken, Wanted(method="rome"))
    with pytest.raises(ArtifactError, match="gc may have taken it"):
        read_edit(ArtifactStore(tmp_path), known)
    with pytest.raises(ModelError, match="is not the model that was edited"):
        base_model(
            known.spec.model_copy(update={"start_token": "never"}),
            known.model_id,
            str(study.parent / "model"),
        )


@pytest.mark.parametrize("kind", ["weights", "adapter", "factors"])
def test_command_takes_an_edit_home(export, taken, loaded, perplexity, kind, tmp_path, capsys):
    """By its subject and method; the card says what was measured."""
    folder = tmp_path / "out"
    asked = ("--subject", "Mira", "--method", "rome", "--as", kind, "--output", str(folder))
    assert export(*asked) == 0
    out = capsys.readouterr().out
    assert "The name of Mira is -> red, rome" in out
    row = ask(
        taken,
        "from edit_outcomes where subject = 'Mira' and method = 'rome'",
    ).row(0, named=True)
    card = (folder / "README.md").read_text()
    assert f"| perplexity on `texts` | {row['perplexity']:.6g} |" in card
    assert "| collapsed, by the default rule | no |" in card
    assert "| second moment C | `corpus` |" in card
    assert json.loads((folder / RECORD).read_text())["model_id"] == row["model_id"]
    if kind == "weights":
        edited = AutoModelForCausalLM.from_pretrained(folder)
        loaded_as = {name: each.clone() for name, each in edited.state_dict().items()}
        (known,) = known_edits(taken, Wanted(subject="Mira", method="rome"))
        with in_weights(loaded.model, read_edit(ArtifactStore(taken), known)):
            now = loaded.model.state_dict()
            assert all(torch.equal(each, now[name]) for name, each in loaded_as.items())


def test_command_takes_a_sequence_home(export, taken, tmp_path, capsys):
    """By how its id begins, after a step; PRUNE's sum is restrained by the model's weights."""
    (known,) = known_sequences(taken, Wanted(method="prune"))
    asked = (known.sequence_id[:10], "--step", "2", "--as", "adapter")
    assert export(*asked, "--output", str(tmp_path / "a")) == 0
    record = json.loads((tmp_path / "a" / RECORD).read_text())
    assert (record["update"]["step"], record["update"]["n_edits"]) == (2, 2)
    assert [each["rank"] for each in record["layers"]] == [2, 2]
    capsys.readouterr()
    assert export(*asked, "--output", str(tmp_path / "b"), knows_model=False) == USER_ERROR
    assert "Say where it lies with --model" in capsys.readouterr().err
    assert export(known.sequence_id, "--step", "1", "--output", str(tmp_path / "c")) == USER_ERROR
    assert "there are those after steps 2, 3, 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--subject", "Mira"), "which one? 5 are as asked: "),
        (("--subject", "Nobody"), "no edit and no sequence in"),
        (("--subject", "Mira", "--method", "rect"), "single edits of full rank are measured and"),
        (("--method", "rect", "--step", "4", "--as", "adapter"), "or keep its largest directions"),
        (("--subject", "Mira", "--method", "rome", "--rank", "2"), "--rank 2: it is of an adapter"),
    ],
)
def test_mistakes_are_told_in_options(export, options, words, tmp_path, capsys):
    """Nothing is written, and the message names options."""
    assert export(*options, "--output", str(tmp_path / "out")) == USER_ERROR
    message = capsys.readouterr().err
    assert words in message
    assert "`rank`" not in message
    assert not list(tmp_path.iterdir())


def test_command_lists_what_there_is(export, capsys, monkeypatch):
    """Edits with whether they are stored, sequences with the steps that are."""
    monkeypatch.setenv("COLUMNS", "200")
    assert export("--list", "--study", "taken") == 0
    out = capsys.readouterr().out
    assert out.count(" c_rome ") == 4
    assert "stored no: single edits of full rank" in out
    assert out.count("2, 3, 4") == len(EDITORS)
    assert export("--list", "--method", "memit_seq", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["layers"]
    assert found["spec"]["source"] == "model"
    assert export("--list", "--case", "no such") == 0
    assert "no edit and no sequence" in capsys.readouterr().out
    assert export("--subject", "Mira") == USER_ERROR
    assert "--output is missing" in capsys.readouterr().err
