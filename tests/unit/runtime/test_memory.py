"""The memory estimate against the bytes of all live tensors, and batch sizes from it."""

import dataclasses

import pytest
import torch

from editcollapse.catalog.architectures import Widths
from editcollapse.runtime.memory import (
    ModelSize,
    default_tokens,
    forward_bytes,
    loaded_bytes,
    packed_bytes,
)
from tests.support import wide_models
from tests.support.live_bytes import live_bytes
from tests.support.tiny import by_default

WORKS = ("values", "answers", "evaluation", "moment")
GIB = 1 << 30
GPT2_SMALL = ModelSize("gpt2", Widths(12, 768, 3072, 50257), 4, "float32")
UNLIKE = ("gpt2", "llama", "gemma2", "falcon_sequential")
FAMILIES = (
    *UNLIKE,
    *("gptj", "gpt_neo", "gpt_neox_parallel", "gpt_neox_sequential", "qwen3", "gemma3_text"),
    *("phi", "phi3", "olmo2", "granite", "stablelm_parallel", "glm4", "cohere", "falcon"),
    *("bloom", "opt"),
)
"""One of each estimate: others are as one of these."""
LAYER, DOCUMENT = 1, 256


def shares_of_the_estimate(loaded, n_edits, n_tokens):
    """Return the peak of each work over its estimate; batches fill the tokens."""
    size = loaded.size(LAYER)
    return {
        piece.work: piece.peak / forward_bytes(size, piece.work, piece.n_tokens)
        for piece in wide_models.pieces(loaded, LAYER, n_edits, n_tokens, DOCUMENT)
    }


@pytest.mark.parametrize(
    ("name", "dtype", "n_layers", "n_edits"),
    [
        pytest.param("gpt2-xl", "bfloat16", 5, 12, marks=pytest.mark.slow),
        pytest.param("gpt2-xl", "float32", 5, 12, marks=pytest.mark.slow),
        pytest.param("gpt-j-6b", "bfloat16", 4, 6, marks=pytest.mark.slow),
        pytest.param("llama2-7b", "bfloat16", 4, 6, marks=pytest.mark.slow),
    ],
)
def test_published_models_take_what_the_estimate_says(name, dtype, n_layers, n_edits, monkeypatch):
    """At real widths, few blocks and small batches, the peak is near the estimate."""
    wide_models.heads_as_on_accelerators(monkeypatch)
    loaded = wide_models.wide_model(wide_models.real_shape(name, n_layers), dtype)
    shares = shares_of_the_estimate(loaded, n_edits, 512)
    for work, share in shares.items():
        assert 0.6 <= share <= 1.2, (work, shares)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", by_default(FAMILIES, UNLIKE))
def test_every_family_takes_what_the_estimate_says(name, dtype, monkeypatch):
    """Never above it by more than a fifth, never below half of it."""
    wide_models.heads_as_on_accelerators(monkeypatch)
    shape = wide_models.variant_shape(name, 5, 256, 1024, 500)
    loaded = wide_models.wide_model(shape, dtype)
    shares = shares_of_the_estimate(loaded, 12, 768)
    for work, share in shares.items():
        assert 0.5 <= share <= 1.2, (work, shares)


def test_live_bytes_are_those_that_something_refers_to():
    """What autograd keeps counts, what nobody refers to does not; views and own writes are free."""
    x = torch.ones(1000, requires_grad=True)
    with live_bytes() as live:
        doubled = x * 2
        result = doubled.sin()
        assert live.now == 8000
        del doubled  # the sine's gradient reads it
        assert live.now == 8000
        total = result.sum()
        del result
        assert live.now == 4004
        total.backward()
        del total
        assert live.now == 4000  # the gradient of x
        x.grad.view(10, 100).mul_(2)
        assert live.now == 4000
    assert live.peak >= 8004


@pytest.mark.parametrize("work", WORKS)
def test_free_memory_decides_between_one_token_and_the_cap(work):
    """The size of a forward grows with what is free, and what it takes stays below that."""
    before = 0
    for free in (0, GIB // 4, GIB, 4 * GIB, 16 * GIB, 64 * GIB, 1024 * GIB):
        tokens = default_tokens(GPT2_SMALL, work, "cuda", free)
        assert before <= tokens
        assert tokens == 1 or forward_bytes(GPT2_SMALL, work, tokens) <= 0.8 * free
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

    def bytes_of(work="values", **other):
        return forward_bytes(dataclasses.replace(GPT2_SMALL, **other), work, 8192)

    widths = dataclasses.replace(GPT2_SMALL.widths, n_vocabulary=1000)
    assert bytes_of(layer=0) > bytes_of()
    assert bytes_of(family="llama") > bytes_of()
    assert bytes_of(dtype="bfloat16") < bytes_of()
    assert bytes_of(widths=widths) < bytes_of()
    assert bytes_of("evaluation") < bytes_of("answers") < bytes_of()


def test_what_takes_memory_without_tokens():
    """Most of C in two types, for the sums of k kT, and its largest slab, for their check."""
    assert forward_bytes(GPT2_SMALL, "moment", 0) == (0.625 * 12 + 0.25 * 8) * 3072**2
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
