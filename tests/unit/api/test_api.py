"""The library: its numbers are the units', it leaves weights alone, and it says what is wrong."""

import importlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import editcollapse as ec
from editcollapse import api
from editcollapse.config.spec import (
    CovarianceSpec,
    DatasetSpec,
    EvaluationSpec,
    ModelSpec,
    StudySpec,
    TemplateSpec,
)
from editcollapse.data.texts import read_texts
from editcollapse.errors import DatasetError, EditCollapseError, ModelError, MomentError, StudyError
from editcollapse.rome.edited_model import written_into_weights
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.plan import CovariancePlan, plan_study
from editcollapse.units.covariance import cut_corpus, prepare_moment, read_probes, sum_shard
from editcollapse.units.edit import edit_batch, stored_updates
from editcollapse.units.evaluate import evaluate_batch
from editcollapse.units.prepare import measure_unedited, prepare_templates
from tests.unit.api.conftest import CORPUS, DEMO, FACT, MODEL, N_TOKENS, TEXTS


@pytest.fixture(scope="module")
def rome(editor) -> ec.Edit:
    """Return an edit that collapses the model."""
    return editor.edit(**FACT, method="rome")


def _rows(store, manifests, table):
    """Return the rows of one table of some manifests."""
    frames = [store.frame(ref) for one in manifests for ref in one.rows if ref.table == table]
    return [row for frame in frames for row in frame.iter_rows(named=True)]


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_numbers_are_those_of_a_study(dtype, tmp_path):
    """One fact of a study and of an editor: equal v*, updates, scores, perplexities, bit by bit."""
    study = StudySpec(
        name="one",
        methods=("rome", "p_rome"),
        models=(ModelSpec(name="m", source=str(MODEL), layer=1, dtype=dtype),),
        dataset=DatasetSpec(path=str(DEMO / "counterfact.json"), limit=1),
        templates=TemplateSpec(kind="start_token"),
        covariance=CovarianceSpec(source=str(CORPUS), n_tokens=N_TOKENS),
        evaluation=EvaluationSpec(texts=str(TEXTS)),
    )
    plan = plan_study(study, tmp_path)
    store = ArtifactStore(tmp_path)
    plan.store_texts(store)
    (model,) = plan.models
    templates = prepare_templates(model.templates)
    moments = CovariancePlan.of(plan, model)
    sums = [sum_shard(job) for job in moments.shard_jobs(cut_corpus(moments.corpus_job()))]
    probes = read_probes(moments.probes_job(templates))
    moment = prepare_moment(moments.merge_job(sums, probes))
    (job,) = plan.edit_jobs(model, templates, moment)
    made = edit_batch(job)
    measured = evaluate_batch(plan.evaluate_job(job, made))
    unedited = measure_unedited(plan.unedited_job(model))
    (base,) = _rows(store, [unedited], "base_perplexities")

    editor = ec.Editor(
        MODEL, covariance=CORPUS, tokens=N_TOKENS, layer=1, dtype=dtype, templates="start_token"
    )
    assert editor.templates == templates.values
    edits = editor.edit_all(job.requests, methods=study.methods)
    assert [edit.method for edit in edits] == list(study.methods)
    assert editor.perplexity(TEXTS) == base["perplexity"]
    tensors = store.tensors(made.tensors)
    for edit, row, figures in zip(
        edits, _rows(store, [made], "edits"), _rows(store, [measured], "measurements"), strict=True
    ):
        assert row["method"] == edit.method
        for name in ("denominator", "rho", "update_norm", "relative_update_norm", "n_steps"):
            assert getattr(edit, name) == row[name], name
        assert edit.target_probability == row["target_probability"]
        assert edit.text_change == pytest.approx(row["text_change"], rel=1e-12)
        assert torch.equal(edit.delta, tensors["delta"][0])
        stored = stored_updates(store, made.tensors)[edit.method]
        assert torch.equal(edit.update.left, stored.left)
        assert torch.equal(edit.update.right, stored.right)
        assert edit.perplexity(TEXTS) == figures["perplexity"]
        assert edit.perplexity_ratio(TEXTS) == figures["perplexity"] / base["perplexity"]
        for name in ("efficacy", "efficacy_prefix_mean", "generalization", "locality"):
            assert getattr(edit.scores, name) == figures[name], name


def test_five_lines(editor, rome):
    """ROME collapses the demo model as forecast; that C-ROME does not, no default can know."""
    assert rome.forecast.verdict == "will collapse"
    assert rome.forecast.instead is None
    assert rome.forecast.subject_position == "first_token"
    assert abs(rome.denominator) < 0.05
    assert rome.perplexity_ratio(TEXTS) > 10
    c_rome = editor.edit(**FACT, method="c_rome")
    assert c_rome.forecast.verdict == "at risk"
    assert c_rome.perplexity_ratio(TEXTS) < 1.2
    assert rome.generate("Pugis was born in") != editor.generate("Pugis was born in")
    assert "Pugis was born in" in repr(rome)
    assert "rome, layer 1" in repr(rome)


def test_forecast_needs_no_edit_and_is_right(editor, rome, monkeypatch):
    """The forecast has the edit's denominator and bounds its norm, and no v* is optimised."""
    monkeypatch.setattr("editcollapse.units.single.optimise_in_groups", None)
    found = editor.forecast(**FACT)
    assert found.denominator == pytest.approx(rome.denominator, rel=1e-5)
    assert rome.update_norm <= found.update_norm_bound
    assert found.change_bound >= found.collapse_at
    assert str(found).startswith("rome: likely to collapse. ")
    again = ec.forecast_edit(editor.model, **FACT, covariance="identity", layer=1)
    assert again.basis.startswith("layer 1 (unpublished), identity covariance")
    assert math.isfinite(again.change_bound)


def test_methods_share_one_optimisation(editor, rome, monkeypatch):
    """v* of the last requests is taken over by other methods; another fact has its own."""
    editor.edit(**FACT)
    monkeypatch.setattr("editcollapse.units.single.optimise_in_groups", None)
    other = editor.edit(**FACT, method="p_rome")
    assert torch.equal(other.delta, rome.delta)
    with pytest.raises(TypeError, match="NoneType"):
        editor.edit("{} was born in", subject="Sukal", target="Jorvale")


def test_edits_leave_the_weights(editor, rome):
    """The edit in the forward pass is the edit in the weights, which stay as they are."""
    model = editor.model.model
    before = [parameter.clone() for parameter in model.parameters()]
    ids = torch.tensor([editor.model.encoder.sequence("Pugis was born in")])
    with torch.no_grad():
        plain = model(ids).logits
        with rome.applied() as edited:
            assert edited is model
            found = model(ids).logits
        with written_into_weights(editor.model, 1, rome.update, 0):
            written = model(ids).logits
        assert torch.equal(model(ids).logits, plain)
    assert torch.allclose(found, written, rtol=1e-3, atol=1e-3 * float(written.abs().max()))
    assert float((found - plain).abs().max()) > 1
    after = list(model.parameters())
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_own_torch_model_can_be_edited(editor, rome):
    """A copy that transformers has loaded runs under the edit; another model is refused."""
    own = AutoModelForCausalLM.from_pretrained(MODEL)
    ids = torch.tensor([editor.model.encoder.sequence("Pugis was born in")])
    with torch.no_grad(), rome.applied() as edited:
        expected = edited(ids).logits
    with torch.no_grad(), rome.applied(own) as edited:
        assert torch.allclose(edited(ids).logits, expected, rtol=1e-3, atol=1e-3)
    assert not own.transformer.h[1].mlp.c_proj._forward_hooks
    llama = AutoModelForCausalLM.from_pretrained(DEMO / "models" / "llama-induced")
    with pytest.raises(ModelError, match="has none like it"), rome.applied(llama):
        pass


def test_probability_is_the_models(editor, rome):
    """A target's probability is the product of softmax entries of a plain forward pass."""
    encoder = editor.model.encoder
    prompt, target = "Pugis was born in", "Jorvale"
    goal = encoder.target_ids(target)
    ids = encoder.sequence(prompt) + goal
    with torch.no_grad():
        logs = editor.model.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    expected = sum(float(logs[len(ids) - len(goal) - 1 + k, goal[k]]) for k in range(len(goal)))
    assert editor.probability(prompt, target) == pytest.approx(math.exp(expected), rel=1e-4)
    assert rome.probability(prompt, target) == pytest.approx(
        math.exp(-rome.scores.target_new_nll * len(goal)), rel=1e-5
    )


def test_statistics_files_are_read(editor, rome, tmp_path):
    """C of published statistics gives the edit that C measured on the corpus gives."""
    from editcollapse.covariance.second_moment import measure_moment
    from editcollapse.data.corpora import open_corpus

    moment = measure_moment(
        editor.model, 1, open_corpus(str(CORPUS)).documents(), n_tokens=N_TOKENS, max_length=1024
    )
    path = tmp_path / "statistics.npz"
    total = moment.matrix.numpy() * moment.n_tokens
    np.savez(path, **{"mom2.mom2": total, "mom2.count": moment.n_tokens})
    other = ec.Editor(editor.model, covariance=path, layer=1).edit(**FACT)
    assert other.denominator == pytest.approx(rome.denominator, rel=1e-6)


def test_given_templates_and_whole_requests(editor):
    """Templates are taken over with the bare one first, and a request may come as a whole."""
    given = ec.Editor(editor.model, covariance="identity", templates=["It rained. {}"], layer=1)
    assert given.templates == ("{}", "It rained. {}")
    request = api.edit_request("Pugis was born in", subject=" Pugis ", target="Jorvale")
    assert (request.prompt, request.subject) == ("{} was born in", "Pugis")
    assert given.edit(request).request is request
    assert given.edit_all([]) == []


def test_read_requests_feed_an_editor(editor):
    """A file of edit requests gives requests that an editor takes."""
    found = ec.read_requests(DEMO / "counterfact.json")
    forecast = editor.forecast(found.records[0].request)
    assert forecast.method == "rome"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model": "no/such/folder/at/all"}, ModelError, "no model folder no/such"),
        ({"covariance": "nowhere.txt"}, DatasetError, "`covariance` nowhere.txt"),
        ({"covariance": "nowhere.npz"}, MomentError, "`covariance` nowhere.npz"),
        ({"layer": 9}, StudyError, "`layer` 9: gpt2-induced has layers 0 to 3"),
        ({"tokens": 0}, StudyError, "`tokens` 0"),
        ({"tokens": 100}, MomentError, "`tokens` 100: .* 256 entries"),
        ({"damping": -1.0}, StudyError, "`damping` -1"),
        ({"dtype": "int8"}, StudyError, "`dtype` 'int8'"),
        ({"start_token": "maybe"}, StudyError, "`start_token` 'maybe'"),
        ({"templates": "ten_words"}, StudyError, "`templates` 'ten_words'"),
        ({"templates": ["no slot"]}, StudyError, "`templates`: 'no slot'"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(changes, error, words, monkeypatch):
    """A wrong argument is named with what was found; no model has been loaded then."""
    monkeypatch.setattr("editcollapse.models.loading.load_model", None)
    arguments = {"model": MODEL, "covariance": CORPUS} | changes
    with pytest.raises(error, match=words) as raised:
        ec.Editor(arguments.pop("model"), **arguments)
    assert isinstance(raised.value, EditCollapseError)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"subject": " "}, StudyError, "`subject` is blank"),
        ({"target": ""}, StudyError, "`target` is blank"),
        ({"target": None}, StudyError, "`target` is missing"),
        ({"subject": "{}"}, StudyError, "`subject` holds {}"),
        ({"prompt": "was born in"}, StudyError, "does not occur in `prompt`"),
        ({"prompt": "{} and {}"}, StudyError, "`prompt` has 2 slots"),
        ({"method": "mend"}, StudyError, "no editor 'mend'"),
        ({"target": "\N{SNOWMAN}"}, ModelError, "cannot take this edit"),
    ],
)
def test_impossible_edits_are_refused(editor, changes, error, words):
    """What cannot be edited is refused, in the words of the arguments."""
    with pytest.raises(error, match=words):
        editor.edit(**(FACT | changes))


def test_singular_covariance_is_told_in_arguments(editor):
    """C without a Cholesky factor: the message names what to change here, not a study's fields."""
    flat = ec.Editor(editor.model, covariance=CORPUS, tokens=256, layer=1)
    with pytest.raises(MomentError, match=r"layer 1 .* is singular\..* \(`tokens`\), or a `damp"):
        flat.edit(**FACT)


def test_public_names_exist():
    """Each public name is there, is listed, and is the one of its own module."""
    for name in ec.__all__:
        assert getattr(ec, name) is not None
        assert name in dir(ec)
    assert ec.Editor is api.Editor
    with pytest.raises(AttributeError, match="no attribute 'Editr'"):
        ec.Editr  # noqa: B018
    assert importlib.import_module("editcollapse") is ec


def test_import_is_light():
    """Importing the package, its names and an editor's checks loads no torch, Prefect or rich."""
    program = (
        "import sys, editcollapse as ec\n"
        "assert not {'torch', 'polars', 'pydantic'} & set(sys.modules)\n"
        f"ec.METHODS, ec.EditRequest, ec.Editor({str(MODEL)!r}, covariance='identity')\n"
        "print({'torch', 'transformers', 'prefect', 'duckdb', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={"PYTHONPATH": str(Path(ec.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"


def test_texts_come_as_a_file_or_a_list(editor):
    """Perplexity takes a path or texts; the two agree."""
    texts = read_texts(TEXTS).texts
    assert editor.perplexity(texts) == editor.perplexity(str(TEXTS))
    with pytest.raises(DatasetError):
        editor.perplexity([])
