"""``check-model`` passes on every family and fails where a row is wrong."""

import dataclasses

import pytest
import torch

from editcollapse.catalog.architectures import InputNorm
from editcollapse.compat import has_packed_products
from editcollapse.config.spec import ModelSpec
from editcollapse.errors import ModelError
from editcollapse.models.loading import load_model
from editcollapse.models.packed_linear import absorb_activation_
from editcollapse.rome.check import check_model
from editcollapse.runtime.environment import listening
from tests.support.tiny import N_LAYERS, VARIANTS, unlike_families

NAMES = [
    "hooks",
    "orientation",
    "split run",
    "rank-one update",
    "products",
    "weights untouched",
    "right padding",
    "head",
]
PARALLEL = {
    "gptj",
    "gpt_neox_parallel",
    "phi",
    "stablelm_parallel",
    "cohere",
    "cohere2",
    "falcon",
    "falcon_two_norms",
    "falcon_one_norm",
}
"""Variants whose attention and MLP read the same residual."""


def failed(check):
    """Return the names of the checks that failed."""
    return {one.name for one in check.checks if not one.passed}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_row_of_the_table_holds_in_float64(tiny_model, variant):
    """Each family's row is true of its model, at every layer."""
    assert_row_holds(tiny_model(variant, "float64"), "float64")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@unlike_families
def test_every_row_of_the_table_holds(tiny_model, variant, dtype):
    """In the other types too."""
    assert_row_holds(tiny_model(variant, dtype), dtype)


def assert_row_holds(loaded, dtype):
    """Check that all checks of a model pass, and what is printed of them."""
    check = check_model(loaded)
    assert [one.name for one in check.checks] == NAMES
    assert check.passed, check.lines()
    assert check.lines()[-1].startswith("all 8 checks passed (tolerance")
    assert all(line.startswith("ok") for line in check.lines()[4:-1])
    assert check.facts.dtype == dtype


def test_check_says_where_it_is(tiny_model):
    """Each check by its number and name, and each layer of those that go through all."""
    reports = []
    loaded = dataclasses.replace(tiny_model("gpt2"), source="org/tiny-gpt2")
    with listening(reports.append):
        check_model(loaded)
    started = [str(each) for each in reports if not each.total]
    assert started == [
        f"tiny-gpt2: check {number} of 8, {name}" for number, name in enumerate(NAMES, start=1)
    ]
    layers = [str(each) for each in reports if each.what.endswith("split run") and each.total]
    assert layers == [
        f"tiny-gpt2: check 3 of 8, split run, layer {n} of {N_LAYERS}"
        for n in range(1, N_LAYERS + 1)
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_facts_are_those_of_the_configuration(tiny_model, variant):
    """Sizes, head, residual and start token are read off the loaded model."""
    loaded = tiny_model(variant)
    facts = check_model(loaded, 0).facts
    known = VARIANTS[variant]
    config = loaded.model.config
    assert facts.family == config.model_type
    assert (facts.n_layers, facts.d_model, facts.d_key) == (N_LAYERS, 16, known.d_key)
    assert facts.n_vocabulary == config.vocab_size == len(loaded.encoder.tokenizer)
    assert facts.tied_head == config.tie_word_embeddings
    assert facts.parallel_residual == (variant in PARALLEL)
    assert facts.projection == ("Conv1D" if config.model_type == "gpt2" else "Linear")
    assert facts.start_token == ("<s>" if known.start else None)
    assert facts.first_token == ("<s>" if known.start else "The")
    first = next(line for line in facts.lines() if line.startswith("position 0"))
    assert ("can stand there" in first) == (not known.start)


@pytest.mark.parametrize("variant", ["gpt2", "llama"])
def test_wrong_orientation_is_found(tiny_model, variant):
    """A row that turns the weight the wrong way fails."""
    loaded = tiny_model(variant)
    row = dataclasses.replace(loaded.architecture, transposed=not loaded.architecture.transposed)
    check = check_model(dataclasses.replace(loaded, architecture=row))
    assert failed(check) == {"orientation", "rank-one update"}
    assert check.lines()[-1].startswith("2 of 8 checks failed: the row in catalog/architectures.py")


@pytest.mark.parametrize("variant", ["gpt2_untied_square", "llama_square"])
def test_wrong_orientation_of_a_square_weight_is_found(tiny_model, variant):
    """The transpose trap: where K is D only the numbers tell."""
    loaded = tiny_model(variant)
    row = dataclasses.replace(loaded.architecture, transposed=not loaded.architecture.transposed)
    check = check_model(dataclasses.replace(loaded, architecture=row))
    assert failed(check) == {"orientation", "rank-one update"}


def test_forgotten_norm_is_found(tiny_model):
    """A row that does not know of the norm behind Gemma's MLP fails where an update is added."""
    loaded = tiny_model("gemma2")
    row = dataclasses.replace(loaded.architecture, post_mlp_norm=None)
    assert failed(check_model(dataclasses.replace(loaded, architecture=row))) == {"rank-one update"}


@pytest.mark.parametrize("variant", ["olmo2", "glm4"])
def test_forgotten_norm_of_other_families_is_found(tiny_model, variant):
    """Likewise where a norm stands behind the MLP of OLMo 2 or GLM-4."""
    loaded = tiny_model(variant)
    row = dataclasses.replace(loaded.architecture, post_mlp_norm=None)
    assert failed(check_model(dataclasses.replace(loaded, architecture=row))) == {"rank-one update"}


def test_forgotten_multiplier_of_the_value_is_found(tiny_model):
    """A row that does not know of Granite's multiplier fails where an update is added."""
    loaded = tiny_model("granite")
    row = dataclasses.replace(loaded.architecture, value_multiplier=None)
    assert failed(check_model(dataclasses.replace(loaded, architecture=row))) == {"rank-one update"}


@pytest.mark.parametrize(
    ("variant", "field"), [("granite", "logit_divisor"), ("cohere", "logit_multiplier")]
)
def test_forgotten_scale_of_logits_is_found(tiny_model, variant, field):
    """Logits that a family scales are not the head's alone."""
    loaded = tiny_model(variant)
    row = dataclasses.replace(loaded.architecture, **{field: None})
    found = failed(check_model(dataclasses.replace(loaded, architecture=row)))
    assert found == {"split run", "rank-one update", "head"}


@pytest.mark.parametrize(
    ("variant", "change"),
    [
        ("gpt2", {"norm": "rms"}),
        ("cohere", {"norm": "rms"}),
        ("llama", {"norm": "layer"}),
        ("qwen2", {"norm": "rms_from_one"}),
        ("gpt2", {"input_norms": (InputNorm("ln_2", ("attn.c_attn",)),)}),
    ],
)
def test_wrong_input_norm_is_found(tiny_model, variant, change):
    """A row that takes a block's norm for another kind, or another norm for it, fails."""
    loaded = tiny_model(variant)
    row = dataclasses.replace(loaded.architecture, **change)
    assert failed(check_model(dataclasses.replace(loaded, architecture=row))) == {"rank-one update"}


@pytest.mark.skipif(not has_packed_products(), reason="no packed products in this torch")
def test_wrong_activation_is_found(tiny_folder, monkeypatch):
    """An activation applied to a product that others read makes another model: it is found."""

    def wrong(block, _projection, activation):
        return absorb_activation_(block, "attn.c_proj", activation)

    monkeypatch.setattr("editcollapse.models.loading.absorb_activation_", wrong)
    spec = ModelSpec(name="gpt2", source=str(tiny_folder("gpt2")), dtype="float32")
    assert failed(check_model(load_model(spec, "cpu"))) == {"products"}


@pytest.mark.parametrize("module", ["mlp.c_fc", "mlp.act"])
def test_wrong_module_is_found(tiny_model, module):
    """A row that names another module of the MLP fails by its widths or its missing weight."""
    loaded = tiny_model("gpt2")
    row = dataclasses.replace(loaded.architecture, down_projection=module)
    assert "hooks" in failed(check_model(dataclasses.replace(loaded, architecture=row), 1))


def test_forgotten_soft_cap_is_found(tiny_model):
    """A head without the family's soft cap is not the model's own."""
    loaded = tiny_model("gemma2")
    cap = loaded.model.config.final_logit_softcapping
    uncapped = dataclasses.replace(loaded)
    states = torch.ones(1, loaded.widths.d_model, dtype=torch.float64) * 5
    assert float(uncapped.logits(states).abs().max()) <= cap
    plain = loaded.model.get_output_embeddings()(states)
    assert float(plain.abs().max()) > cap


def test_no_such_layer(tiny_model):
    """A layer that is not there is refused, not reported as failed."""
    with pytest.raises(ModelError, match="layer 9 of gpt2"):
        check_model(tiny_model("gpt2"), 9)
