"""Peak memory of every kind of work on a device, beside the estimate that ``plan`` prints."""

import dataclasses

import pytest
import torch

from benchmarks.gpu.measuring import once
from editcollapse.runtime.memory import forward_bytes
from tests.gpu.places import moved
from tests.support.wide_models import pieces, real_model, real_shape, variant_shape

LAYER = 1
_CPU = torch.device("cpu")
_GPU = [
    ("gpt2-xl", 6, 64, 8192),
    ("gpt-j-6b", 4, 48, 4096),
    ("llama2-7b", 4, 48, 4096),
]
"""Real widths with few blocks, edits, and tokens of a forward of other work."""


def shares_of_the_estimate(loaded, device, n_edits, n_tokens, n_document):
    """Return the peak of each work, weights included, over weights and estimate."""
    weights = sum(each.numel() * each.element_size() for each in loaded.model.parameters())
    found = {}
    for piece in pieces(loaded, LAYER, n_edits, n_tokens, n_document):
        piece.run()  # libraries take their workspaces at their first call
        peak = once(piece.run, device).peak_bytes
        estimate = forward_bytes(loaded.size(LAYER), piece.work, piece.n_tokens)
        found[piece.work] = (weights + peak) / (weights + estimate)
    return found


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "n_layers", "n_edits", "n_tokens"), _GPU)
def test_peaks_are_within_a_fifth_of_the_estimate(name, n_layers, n_edits, n_tokens, dtype):
    """What CUDA's allocator gave out at most: within 20 % of the estimate."""
    if not torch.cuda.is_available():
        pytest.skip("no accelerator here that counts its memory")
    device = torch.device("cuda", 0)
    loaded = real_model(real_shape(name, n_layers), dtype, device)
    shares = shares_of_the_estimate(loaded, device, n_edits, n_tokens, 1024)
    assert all(0.8 <= share <= 1.2 for share in shares.values()), shares


@pytest.mark.slow
def test_emulated_peaks_are_near_the_estimate(emulated):
    """The same, counted by storage, on a small Llama: v* of few edits takes less."""
    loaded = real_model(variant_shape("llama", 4, 256, 1024, 500), "float32", _CPU)
    with emulated() as device:
        there = dataclasses.replace(loaded, model=moved(loaded.model, device, torch.float32))
        shares = shares_of_the_estimate(there, device, 8, 256, 256)
    assert all(0.6 <= share <= 1.2 for share in shares.values()), shares
