"""Edited models of many makings, beside the one that each was made from."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from editcollapse.api import Editor
from editcollapse.config.check import CheckSpec
from editcollapse.errors import EditCollapseError, ModelError, MomentError, StudyError
from editcollapse.judging.check import check_edited
from editcollapse.judging.inputs import check_inputs
from editcollapse.rows.collapse_rule import DEFAULT_RULE
from tests.support.edited_models import drawn, edited_copy, round_trip, times, write_adapter
from tests.support.flow_runs import REPOSITORY

DEMO = REPOSITORY / "demo"
BASE = DEMO / "models" / "gpt2-induced"
DOWN = "transformer.h.1.mlp.c_proj.weight"


def checked(edited, base=BASE, **asked):
    """Return what a check on the demo's texts finds."""
    spec = CheckSpec(
        base=str(base), edited=str(edited), **{"texts": str(DEMO / "texts.jsonl"), **asked}
    )
    return check_edited(check_inputs(spec), "cpu")


@pytest.fixture(scope="module")
def rome():
    """Return the factors of the edit that collapses the demo model: left (D,), right (K,)."""
    editor = Editor(BASE, covariance=DEMO / "corpus.txt", tokens=20_000)
    made = editor.edit("{} was born in", subject="Pugis", target="Jorvale", method="rome")
    return made.update.left[0].float(), made.update.right[0].float()


def test_the_same_folder_twice_differs_in_nothing(tmp_path):
    """Whatever the folder is called, nothing is run."""
    found = checked(shutil.copytree(BASE, tmp_path / "copy"))
    assert found.verdict(DEFAULT_RULE) == "nothing differs"
    assert (found.changes, found.before, found.relative_norm) == ((), None, 0.0)


def test_an_exported_collapse_is_one(rome, tmp_path):
    """A ROME edit in the weights, and as a delta's factors, collapse alike; a forecast says so."""
    left, right = rome

    def write(weights):
        weights[DOWN] += torch.outer(right, left)

    folder = edited_copy(BASE, tmp_path / "edited", write)
    corpus = {"covariance": str(DEMO / "corpus.txt"), "tokens": 5000}
    found = checked(folder, **corpus)
    (change,) = found.changes
    assert found.verdict(DEFAULT_RULE) == "collapsed"
    assert found.after.perplexity > 100 * found.before.perplexity
    assert (change.tensor, change.part, change.layer) == (DOWN, "down projection", 1)
    assert change.effective_rank == pytest.approx(1.0, abs=1e-4)
    assert found.forecast.verdict == "will collapse"
    delta = tmp_path / "delta.safetensors"
    save_file({f"{DOWN}.matU": left, f"{DOWN}.matV": right}, delta)
    other = checked(delta, perplexity=False, **corpus)
    assert other.verdict(DEFAULT_RULE) == "will collapse"
    assert other.largest.text_change == pytest.approx(change.text_change, rel=1e-5)
    assert other.before is None


def test_a_merge_and_a_round_trip_are_alive(tmp_path):
    """The mean of two demo models, and 8-bit weights in shards, stay near the base."""
    others = load_file(DEMO / "models" / "gpt2-control" / "model.safetensors")

    def merge(weights):
        return {name: (each + others[name]) / 2 for name, each in weights.items()}

    merged = checked(edited_copy(BASE, tmp_path / "merge", merge))
    assert merged.verdict(DEFAULT_RULE) == "alive"
    assert merged.forecast.verdict == "not known"
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    weights = dict(model.named_parameters())
    plain = {name: each.data for name, each in weights.items()}
    round_trip(plain)
    for name, each in plain.items():
        weights[name].data.copy_(each)
    model.save_pretrained(tmp_path / "int8", max_shard_size="500KB")
    assert len(list((tmp_path / "int8").glob("*.safetensors"))) > 1
    found = checked(tmp_path / "int8")
    assert found.verdict(DEFAULT_RULE) == "alive"
    assert "has no tokenizer" in found.notes[0]
    assert found.n_unknown == 2  # token and position embeddings
    assert 0 < found.largest.text_change < 0.1
    assert found.after.perplexity == pytest.approx(found.before.perplexity, rel=0.01)


def test_weights_that_are_no_numbers_are_a_collapse(tmp_path):
    """No perplexity is asked for to see it, and none is a number."""

    def write(weights):
        weights[DOWN][0, 0] = math.nan

    found = checked(edited_copy(BASE, tmp_path / "nan", write))
    assert found.verdict(DEFAULT_RULE) == "collapsed"
    assert math.isnan(found.after.perplexity)
    assert found.n_not_finite == 1


def test_bf16_is_a_difference_of_rounding(tmp_path):
    """A cast checkpoint differs in nearly all numbers, and is alive."""

    def cast(weights):
        return {name: each.bfloat16() for name, each in weights.items()}

    found = checked(edited_copy(BASE, tmp_path / "half", cast), covariance="none")
    assert found.verdict(DEFAULT_RULE) == "alive"
    assert found.relative_norm < 0.003
    assert found.largest is None


def test_an_untied_head_is_a_change_of_its_own(tmp_path):
    """With a head beside the embedding, as other releases store it, only what differs is named."""

    def untie(weights):
        weights["lm_head.weight"] = weights["transformer.wte.weight"].clone()
        weights["lm_head.weight"][0] += 1
        return {name.removeprefix("transformer."): each for name, each in weights.items()}

    folder = edited_copy(BASE, tmp_path / "untied", untie)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    found = checked(folder)
    assert [(each.tensor, each.part) for each in found.changes] == [("lm_head.weight", "head")]
    assert found.n_unknown == 1


def test_facts_are_scored_before_and_after(rome, tmp_path):
    """Requests that the tokenizer takes have scores of both models."""
    left, right = rome
    delta = tmp_path / "delta.safetensors"
    save_file({f"{DOWN}.matU": left, f"{DOWN}.matV": right}, delta)
    found = checked(delta, facts=str(DEMO / "counterfact.json"), limit=3, covariance="none")
    assert [each.side for each in found.scores] == ["before", "after"] * 3
    assert all(each.locality == 1.0 for each in found.scores if each.side == "before")


def test_an_adapter_adds_its_scaled_product(tmp_path):
    """B A alpha / r, with ranks and alphas of single modules, turned for Conv1D."""
    down, up = drawn(2, 128), drawn(384, 2, seed=1)
    other_down, other_up = drawn(1, 256), drawn(128, 1, seed=1)
    name = "transformer.h.0.attn.c_attn"
    factors = {
        f"{name}.lora_A": down,
        f"{name}.lora_B": up,
        f"{DOWN.removesuffix('.weight')}.lora_A": other_down,
        f"{DOWN.removesuffix('.weight')}.lora_B": other_up,
    }
    folder = write_adapter(
        tmp_path / "adapter",
        factors,
        rank_pattern={"h.1.mlp.c_proj": 1},
        alpha_pattern={"c_attn": 3},
        use_rslora=True,
    )

    def write(weights):
        weights[f"{name}.weight"] += (up @ down).T * 3 / math.sqrt(2)
        weights[DOWN] += (other_up @ other_down).T * 4

    merged = checked(edited_copy(BASE, tmp_path / "merged", write), perplexity=False)
    found = checked(folder, perplexity=False)
    for one, other in zip(found.changes, merged.changes, strict=True):
        assert one.tensor == other.tensor
        assert one.norm == pytest.approx(other.norm, rel=1e-5)
        assert one.text_change == pytest.approx(other.text_change, rel=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_adapter_of_peft_is_what_peft_merges(tmp_path):
    """The factors that peft writes, and the weights that it merges, are one difference."""
    peft = pytest.importorskip("peft")
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    config = peft.LoraConfig(
        r=3, target_modules=["c_attn", "c_fc"], init_lora_weights=False, fan_in_fan_out=True
    )
    adapted = peft.get_peft_model(model, config)
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    one = checked(tmp_path / "adapter", covariance="none")
    other = checked(tmp_path / "merged", covariance="none")
    assert [each.tensor for each in one.changes] == [each.tensor for each in other.changes]
    assert one.after.perplexity == pytest.approx(other.after.perplexity, rel=1e-4)


def test_settings_that_differ_are_told(tmp_path):
    """The weights are the same, the model is not."""
    folder = shutil.copytree(BASE, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_epsilon": 0.5}))
    found = checked(folder)
    assert found.settings_changed == ("layer_norm_epsilon",)
    assert found.verdict(DEFAULT_RULE) != "nothing differs"
    assert found.forecast.verdict == "not known"


REFUSED = {
    "another family": (lambda _: DEMO / "models" / "llama-induced", "is a llama, and"),
    "nothing there": (lambda folder: folder / "nothing", "no model folder"),
    "a pickle": (lambda folder: _file(folder / "delta.pt"), "pickles are never loaded"),
    "DoRA": (lambda folder: _adapter(folder, use_dora=True), "DoRA"),
    "IA3": (lambda folder: _adapter(folder, peft_type="IA3"), "peft_type 'IA3'"),
    "PiSSA": (lambda folder: _adapter(folder, init_lora_weights="pissa"), "other base weights"),
    "a hostile pattern": (
        lambda folder: _adapter(folder, rank_pattern={"(a+)+": 2}),
        "is no module's name",
    ),
    "another rank": (lambda folder: _adapter(folder, r=3), r"are needed"),
    "a weight of no model": (
        lambda folder: _delta(folder, {"h.9.mlp.c_proj.weight": drawn(2, 2)}),
        "no weight of this model",
    ),
    "another shape of delta": (lambda folder: _delta(folder, {DOWN: drawn(2, 2)}), "does not fit"),
    "either way round": (
        lambda folder: _delta(
            folder,
            {
                "transformer.h.0.attn.c_proj.weight.matU": drawn(128),
                "transformer.h.0.attn.c_proj.weight.matV": drawn(128),
            },
        ),
        "either way round",
    ),
}


def _file(path):
    path.write_bytes(b"x")
    return path


def _adapter(folder, **config):
    name = DOWN.removesuffix(".weight")
    factors = {f"{name}.lora_A": drawn(2, 256), f"{name}.lora_B": drawn(128, 2)}
    return write_adapter(folder / "adapter", factors, **config)


def _delta(folder, changes):
    save_file(changes, folder / "delta.safetensors")
    return folder / "delta.safetensors"


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_refused_in_a_sentence(case, tmp_path):
    """The sentence says what was found; nothing is measured."""
    make, words = REFUSED[case]
    with pytest.raises(ModelError, match=words):
        checked(make(tmp_path))


def test_another_shape_is_refused(tiny_folder):
    """Models of one family and other sizes are named with both sizes."""
    with pytest.raises(ModelError, match="has another shape than gpt2-induced"):
        checked(tiny_folder("gpt2"))


def test_another_tokenizer_is_refused(tmp_path):
    """Perplexities over other tokens are not comparable."""
    folder = edited_copy(BASE, tmp_path / "other", times(ln_f=2))
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    one, other = sorted(vocabulary, key=vocabulary.get)[10:12]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(ModelError, match="reads text as other tokens"):
        checked(folder)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"covariance": "identity"}, StudyError),
        ({"facts": str(DEMO / "facts.json"), "perplexity": False}, StudyError),
        ({"covariance": "no.npz"}, MomentError),
        ({"texts": "no.txt"}, EditCollapseError),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(asked, error):
    """What is asked for in vain is an error of the inputs."""
    spec = CheckSpec(base=str(BASE), edited=str(BASE), **asked)
    with pytest.raises(error):
        check_inputs(spec)


def test_ids_are_of_content(tmp_path):
    """A copy elsewhere and another name are the same check; other texts are another."""
    copy = shutil.copytree(BASE, tmp_path / "copy")

    def id_of(**asked):
        return check_inputs(
            CheckSpec(**({"base": str(BASE), "edited": str(copy)} | asked))
        ).check_id

    assert id_of() == id_of(base=str(copy), name="other", collapse={"ratio": 2})
    assert id_of() != id_of(texts=str(DEMO / "texts.jsonl"))
    assert id_of() != id_of(perplexity=False)
