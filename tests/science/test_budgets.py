"""The memory estimate against what autograd keeps, and batch sizes from it."""

import dataclasses

import pytest
import torch

from editcollapse.architectures import Widths
from editcollapse.budgets import (
    ModelSize,
    _kept_by_block,
    bytes_per_token,
    default_tokens,
    forward_bytes,
    loaded_bytes,
    packed_bytes,
)
from editcollapse.models import load_model
from editcollapse.sites import EditSite
from editcollapse.specs import ModelSpec
from tests.science import tiny

WORKS = ("values", "evaluation", "moment")
GIB = 1 << 30
GPT2_SMALL = ModelSize("gpt2", Widths(12, 768, 3072, 50257), 4, "float32")
FAMILIES = (
    "gpt2",
    "gptj",
    "gpt_neo",
    "gpt_neox_parallel",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3_text",
    "phi",
    "phi3",
)
ROWS, TOKENS = 8, 12
D, K = 64, 256


def deep_variant(name, n_layers):
    """Return a tiny variant with wider and more blocks."""
    variant = tiny.VARIANTS[name]
    known = {
        "n_embd": D,
        "hidden_size": D,
        "n_inner": K,
        "intermediate_size": K,
        "n_layer": n_layers,
        "num_hidden_layers": n_layers,
        "num_layers": n_layers,
        "head_dim": 16,
        "attention_types": [[["global"], n_layers]],
        "layer_types": ["full_attention"] * n_layers,
    }
    fields = {field: known.get(field, value) for field, value in variant.fields.items()}
    return dataclasses.replace(variant, fields=fields, d_key=K)


def kept_bytes(loaded):
    """Return the bytes that autograd keeps of a pass through the blocks above the first."""
    weights = [*loaded.model.parameters(), *loaded.model.buffers()]
    own = {weight.untyped_storage().data_ptr() for weight in weights}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    site = EditSite(loaded, 0)
    ids = torch.ones((ROWS, TOKENS), dtype=torch.int64)
    residual = site.read(ids).residual.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = site.continue_from(residual)
    assert hidden.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_block_keeps_what_the_estimate_says(name, dtype, tmp_path, monkeypatch):
    """One more block keeps no more than estimated for a live token, and not less than a third."""
    kept = []
    for n_layers in (2, 3):
        monkeypatch.setitem(tiny.VARIANTS, "deep", deep_variant(name, n_layers))
        folder = tiny.write_model("deep", tmp_path / str(n_layers))
        loaded = load_model(ModelSpec(name="m", source=str(folder), dtype=dtype), "cpu")
        kept.append(kept_bytes(loaded))
    measured = (kept[1] - kept[0]) / (ROWS * TOKENS)
    estimate = _kept_by_block(loaded.size(0))
    assert measured <= estimate <= 3 * measured


@pytest.mark.parametrize("work", WORKS)
def test_free_memory_decides_between_one_token_and_the_cap(work):
    """The size of a forward grows with what is free, and what it takes stays below that."""
    before = 0
    for free in (0, GIB // 4, GIB, 4 * GIB, 16 * GIB, 64 * GIB, 1024 * GIB):
        tokens = default_tokens(GPT2_SMALL, work, "cuda", free)
        assert before <= tokens
        assert tokens == 1 or forward_bytes(GPT2_SMALL, work, tokens) <= 0.7 * free
        before = tokens
    assert default_tokens(GPT2_SMALL, work, "cuda", 0) == 1
    assert before == default_tokens(GPT2_SMALL, work, "cuda", None)


@pytest.mark.parametrize("work", WORKS)
def test_cpu_has_a_smaller_cap(work):
    """Memory lowers the CPU's cap and never raises it."""
    on_cpu = [default_tokens(GPT2_SMALL, work, "cpu", free) for free in (None, 1 << 60, GIB)]
    assert on_cpu[0] == on_cpu[1] < default_tokens(GPT2_SMALL, work, "cuda", 1 << 60)
    assert on_cpu[2] <= on_cpu[0]


def test_what_makes_a_forward_larger():
    """More blocks above the edit, wider numbers, a gate and a vocabulary cost memory."""
    small = bytes_per_token(GPT2_SMALL, "values")
    widths = dataclasses.replace(GPT2_SMALL.widths, n_vocabulary=1000)
    assert bytes_per_token(dataclasses.replace(GPT2_SMALL, layer=0), "values") > small
    assert bytes_per_token(dataclasses.replace(GPT2_SMALL, family="llama"), "values") > small
    assert bytes_per_token(dataclasses.replace(GPT2_SMALL, dtype="bfloat16"), "values") < small
    assert bytes_per_token(dataclasses.replace(GPT2_SMALL, widths=widths), "values") < small
    assert bytes_per_token(GPT2_SMALL, "evaluation") < small
    assert forward_bytes(GPT2_SMALL, "moment", 0) == 40 * 3072**2
    assert forward_bytes(GPT2_SMALL, "evaluation", 0) == 0


def test_weights_in_the_type_asked_for():
    """Half on disk and single in memory is twice the size; an unknown type counts as float32."""
    assert loaded_bytes(100, "bfloat16", "float32") == 200
    assert loaded_bytes(100, "float32", "float16") == 50
    assert loaded_bytes(100, "", "float32") == 100


def test_weights_are_packed_where_half_of_memory_holds_them():
    """Weights and both copies within half of main memory; float32 on a CPU; memory known."""
    assert packed_bytes(GIB, "float32", "cpu", 6 * GIB) == 2 * GIB
    assert packed_bytes(GIB, "float32", "cpu", 6 * GIB - 1) == 0
    assert packed_bytes(GIB, "float32", "cpu", None) == 0
    assert packed_bytes(GIB, "bfloat16", "cpu", 6 * GIB) == 0
    assert packed_bytes(GIB, "float64", "cpu", 6 * GIB) == 0
    assert packed_bytes(GIB, "float32", "cuda", 6 * GIB) == 0
