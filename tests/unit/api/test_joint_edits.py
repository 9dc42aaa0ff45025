"""Editors beyond rank one in the library: a study's numbers, weights left alone, what is wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import editcollapse as ec
from editcollapse.config.spec import (
    CovarianceSpec,
    DatasetSpec,
    EvaluationSpec,
    ModelSpec,
    StudySpec,
)
from editcollapse.data.texts import read_texts
from editcollapse.errors import ModelError, ResultsError, StudyError
from editcollapse.stored.weights import in_weights
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.model_editors import ModelEditors
from editcollapse.study.plan import plan_study
from editcollapse.units.covariance import cut_corpus, prepare_moment, read_probes, sum_shard
from editcollapse.units.editor_batch import edit_and_measure
from editcollapse.units.editors import mean_length, optimise_targets
from editcollapse.units.prepare import prepare_templates
from tests.unit.api.conftest import CORPUS, DEMO, FACT, MODEL, N_TOKENS, TEXTS

PROMPT = "Pugis was born in"
METHODS = ("memit", "alphaedit", "nas", "ft_m")


@pytest.fixture(scope="module")
def requests() -> list[ec.EditRequest]:
    """Return three facts that have probes."""
    found = ec.read_requests(DEMO / "counterfact.json")
    return [record.request for record in found.records[:3]]


@pytest.fixture(scope="module")
def memit(editor, requests) -> ec.JointEdit:
    """Return a joint edit of three facts."""
    return editor.edit_jointly(requests, method="memit")


def test_numbers_are_those_of_a_study(editor, tmp_path):
    """Two facts of a study and of an editor: equal updates, sizes, scores and perplexities."""
    few = tmp_path / "texts.txt"
    few.write_text("\n".join(read_texts(TEXTS).texts[:8]))
    study = StudySpec(
        name="two",
        methods=METHODS,
        models=(ModelSpec(name="m", source=str(MODEL), layer=1),),
        dataset=DatasetSpec(path=str(DEMO / "counterfact.json"), limit=2),
        covariance=CovarianceSpec(source=str(CORPUS), n_tokens=N_TOKENS),
        evaluation=EvaluationSpec(texts=str(few)),
    )
    plan = plan_study(study, tmp_path)
    store = ArtifactStore(tmp_path)
    plan.store_texts(store)
    (model,) = plan.models
    editors = ModelEditors(plan, model)
    templates, own = prepare_templates(model.templates), prepare_templates(editors.templates_job)
    layers = editors.covariance_plans()
    sums = [sum_shard(job) for job in layers[0].shard_jobs(cut_corpus(layers[0].corpus_job()))]
    probes = read_probes(layers[0].probes_job(templates))
    moments = [prepare_moment(each.merge_job(sums, probes)) for each in layers]
    asked = [record.request for record in plan.requests.records]
    assert editor.joint_templates == own.values
    edits = editor.edit_all(asked, methods=METHODS)
    for index, setup in enumerate(editors.setups):
        inputs = editors.inputs(setup, templates, own, moments)
        targets = [optimise_targets(job) for job in editors.target_jobs(inputs)]
        lengths = editors.lengths_job(inputs, targets)
        if lengths is not None:
            inputs = inputs.with_length(lengths, mean_length(lengths))
        (job,) = editors.batch_jobs(inputs, targets)
        done = edit_and_measure(job)
        rows = {ref.table: store.frame(ref).rows(named=True) for ref in done.rows}
        tensors = store.tensors(done.tensors) if done.tensors else {}
        for b in range(2):
            edit, row = edits[2 * index + b], rows["edits"][b]
            assert (edit.method, edit.layers[-1]) == (row["method"], row["layer"])
            assert edit.settings.source == row["layer_source"]
            for name in ("update_norm", "relative_update_norm", "text_change"):
                assert getattr(edit, name) == pytest.approx(row[name], rel=1e-12), name
            assert (edit.n_steps, edit.target_probability) == (
                row["n_steps"],
                row["target_probability"],
            )
            for change in edit.changes.layers if tensors else ():
                assert torch.equal(change.left[0], tensors[f"left.{change.layer}"][b])
                assert torch.equal(change.right[0], tensors[f"right.{change.layer}"][b])
            found, (scores,) = rows["measurements"][b], edit.scores
            assert edit.perplexity(few) == pytest.approx(found["perplexity"], rel=1e-6)
            for name in ("efficacy", "efficacy_prefix_mean", "generalization", "locality"):
                assert getattr(scores, name) == found[name], name


def test_joint_edit_does_what_it_says(editor, memit, requests):
    """Three facts in one edit: its scores, sizes and layers; a wrong name is no attribute."""
    assert memit.layers == (0, 1)
    assert len(memit.scores) == 3
    assert sum(each.efficacy for each in memit.scores) > sum(
        editor.edit(each, method="ft_l").scores[0].efficacy for each in requests[:1]
    )
    assert 0 < memit.text_change < 1
    assert memit.perplexity_ratio(TEXTS) == pytest.approx(1, abs=0.1)
    assert repr(memit).startswith("JointEdit('3 facts at once', memit, layers 0-1: text change ")
    assert isinstance(memit, ec.EditedModel)
    for name in ("denominator", "rho", "forecast", "delta"):
        assert not hasattr(memit, name)
    prompt, target = requests[1].filled_prompt, requests[1].target_new
    assert memit.probability(prompt, target) > 10 * editor.probability(prompt, target)
    assert memit.generate(prompt, 1).strip() == target
    one = editor.edit_jointly(requests[:1], method="memit")
    assert torch.equal(
        one.changes.layers[1].left, editor.edit(requests[0], method="memit").changes.layers[1].left
    )


@pytest.mark.parametrize("method", ["memit", "rect", "prune"])
def test_edits_leave_the_weights(editor, requests, method):
    """The edit in the forward pass is the edit in the weights, which stay as they are."""
    model = editor.model.model
    before = [parameter.clone() for parameter in model.parameters()]
    edit = editor.edit_jointly(requests, method=method)
    ids = torch.tensor([editor.model.encoder.sequence(PROMPT)])
    with torch.no_grad():
        plain = model(ids).logits
        with edit.applied() as edited:
            assert edited is model
            found = model(ids).logits
        with in_weights(model, edit.stored):
            written = model(ids).logits
        assert torch.equal(model(ids).logits, plain)
    assert torch.allclose(found, written, atol=1e-4 * float(written.abs().max()))
    assert float((found - plain).abs().max()) > 0.1
    after = list(model.parameters())
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_own_torch_model_can_be_edited(editor, memit):
    """A copy that transformers has loaded runs under the edit; another model is refused whole."""
    own = AutoModelForCausalLM.from_pretrained(MODEL)
    ids = torch.tensor([editor.model.encoder.sequence(PROMPT)])
    with torch.no_grad(), memit.applied() as edited:
        expected = edited(ids).logits
    with torch.no_grad(), memit.applied(own) as edited:
        assert torch.allclose(edited(ids).logits, expected, atol=1e-4)
    hooked = (block.mlp.c_proj._forward_hooks for block in own.transformer.h)
    assert not any(hooked)
    llama = AutoModelForCausalLM.from_pretrained(DEMO / "models" / "llama-induced")
    with pytest.raises(ModelError, match="has none like it"), memit.applied(llama):
        pass


def test_editors_of_the_same_last_layer_share_z(editor, requests, memit, monkeypatch):
    """z* of the last requests is taken over; C of all layers was measured in one pass."""
    editor.edit_jointly(requests, method="memit")
    monkeypatch.setattr("editcollapse.units.editors.optimise_in_groups", None)
    monkeypatch.setattr("editcollapse.units.single._measured", None)
    rect = editor.edit_jointly(requests, method="rect")
    assert rect.target_probability == memit.target_probability
    with pytest.raises(TypeError, match="NoneType"):
        editor.edit_jointly(requests[:2], method="memit")


def test_settings_can_be_given(editor):
    """Settings go before the published ones field by field, and are told where they stand."""
    specs = [
        ec.EditorSpec(name="memit", layers=(1, 2), second_moment_weight=500.0),
        ec.EditorSpec(name="ft_l", norm_bound=1e-2),
    ]
    other = ec.Editor(editor.model, covariance=CORPUS, layer=1, editor_settings=specs)
    found = other.settings_of("memit")
    assert (found.layers, found.second_moment_weight) == ((1, 2), 500.0)
    assert found.values == editor.settings_of("memit").values
    assert found.source == "as given over unpublished"
    assert other.settings_of("ft_l").norm_bound == 1e-2
    assert other.settings_of("alphaedit") == editor.settings_of("alphaedit")
    assert ec.Editor(MODEL, covariance="identity", layer=2).settings_of("memit").layers == (0, 1, 2)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "ft_m", "ridge": 1.0}, "`editor_settings`: FT-M has no ridge"),
        ({"name": "rome", "steps": 3}, "'rome' is a rank-one method, which takes `value_settings`"),
        ({"name": "memit", "model": "m"}, "`model` is of a study"),
        ({"name": "memit", "layers": (3, 4)}, "has layer 4, and the model has layers 0 to 3"),
        ({"name": "ft", "layers": (0, 1)}, "fine-tunes one layer"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_loaded(spec, words, monkeypatch):
    """A setting that an editor does not have is named; no model has been loaded then."""
    monkeypatch.setattr("editcollapse.models.loading.load_model", None)
    with pytest.raises(StudyError, match=words):
        ec.Editor(MODEL, covariance="identity", editor_settings=[ec.EditorSpec(**spec)])
    twice = [ec.EditorSpec(name="memit"), ec.EditorSpec(name="memit", steps=3)]
    with pytest.raises(StudyError, match="has 'memit' twice"):
        ec.Editor(MODEL, covariance="identity", editor_settings=twice)


def test_mistakes_are_told(editor, requests, tmp_path):
    """What an editor cannot do is said, with what can be done instead."""
    with pytest.raises(StudyError, match="'rome' is of rank one and writes one fact"):
        editor.edit_jointly(requests, method="rome")
    with pytest.raises(StudyError, match=r"no editor 'mend'\. Known: .*memit, "):
        editor.edit_jointly(requests, method="mend")
    with pytest.raises(StudyError, match="`requests` is empty"):
        editor.edit_jointly([])
    with pytest.raises(StudyError, match="'memit': a forecast is of rank-one methods"):
        editor.forecast(**FACT, method="memit")
    with pytest.raises(ModelError, match="cannot take this edit"):
        editor.edit(**(FACT | {"target": "\N{SNOWMAN}"}), method="memit")
    (tmp_path / "c.npz").touch()
    one = ec.Editor(editor.model, covariance=tmp_path / "c.npz", layer=1)
    with pytest.raises(StudyError, match=r"C of layers 0-1 is needed, and `covariance` c.npz"):
        one.edit(**FACT, method="memit")


def test_exports_carry_several_layers_and_full_rank(editor, memit, requests, tmp_path):
    """Weights, adapter and factors of a joint edit; fine-tuning as weights, as an adapter by rank.

    What lies in the folder is what ``applied`` runs.
    """
    done = memit.export(tmp_path / "factors", "factors", texts=TEXTS)
    assert [(each.layer, each.rank) for each in done.layers] == [(0, 3), (1, 3)]
    factors = load_file(tmp_path / "factors" / "factors.safetensors")
    assert torch.equal(factors["left.1"], memit.changes.layers[1].left[0])
    card = (tmp_path / "factors" / "README.md").read_text()
    assert "| edits | 3, at once |" in card
    assert f"| fact | `{requests[0].filled_prompt}` -> `{requests[0].target_new}` |" in card
    assert "second moment weight" in card
    record = json.loads((tmp_path / "factors" / "editcollapse.json").read_text())
    assert (record["update"]["n_edits"], record["update"]["layers"]) == (3, [0, 1])
    assert memit.export(tmp_path / "adapter", "adapter").layers[0].rank == 3
    tuned = editor.edit(requests[0], method="ft_m")
    with pytest.raises(ResultsError, match="keep its largest directions with `rank`"):
        tuned.export(tmp_path / "no", "adapter")
    assert tuned.export(tmp_path / "low", "adapter", rank=2).layers[0].cut > 0
    tuned.export(tmp_path / "tuned")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "tuned")
    ids = torch.tensor([editor.model.encoder.sequence(PROMPT)])
    with torch.no_grad(), tuned.applied() as edited:
        assert torch.allclose(read(ids).logits, edited(ids).logits, atol=1e-3)
