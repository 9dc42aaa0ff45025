"""On a device the packed attention is the family's own attention on whole rows."""

import pytest
import torch

from editcollapse.forward import suffix as live_module
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.forward.suffix import split_rewrites
from editcollapse.rome.value_loss import Objective
from tests.gpu.expected import VALUES
from tests.gpu.places import everywhere, on_device
from tests.support.cases import LAYER, REQUESTS, TEMPLATES, distance
from tests.support.tiny import VARIANTS

_OWN = {"gptj", "gpt_neo", "bloom", "stablelm", "stablelm_parallel"}
PACKED = tuple(name for name in VARIANTS if name not in _OWN and not name.startswith("falcon"))
"""Families whose attention goes through transformers' interface."""
_CLOSE = {"float64": 1e-9, "float32": 1e-4}
_CAST = {
    "cohere",
    "cohere2",
    "gemma",
    "gemma2",
    "gemma3_multimodal",
    "gemma3_text",
    "glm4",
    "granite",
    "llama",
    "llama_square",
    "mistral",
    "olmo2",
    "olmo3",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
}
"""Families that cast to float32 inside, whatever the weights are."""


def states_and_gradient(loaded):
    """Return the states that one pass of v* reads, and the gradient of delta, on the CPU."""
    hooked = HookedLayer(loaded, LAYER)
    rewrites, _ = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
    suffix, subject = split_rewrites(hooked, rewrites)
    value = subject.value[:, 0]
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    delta = delta.to(value.dtype).to(loaded.device).requires_grad_()
    states = suffix.states(delta).detach().cpu()
    problem = Objective(suffix, rewrites, VALUES, value.norm(dim=1))
    _, total = problem.loss(delta, torch.arange(len(rewrites)))
    total.sum().backward()
    return states, delta.grad.cpu()


@pytest.mark.parametrize("dtype", _CLOSE)
@everywhere(PACKED, ("gpt2", "llama"))
def test_packed_attention_is_the_usual_one(accelerator, model, variant, dtype, monkeypatch):
    """States and gradient of a pass: float32 1e-4; float64 1e-9 where the family keeps the type."""
    whole = model(variant)
    with accelerator() as device:
        loaded = on_device(whole, device, dtype)
        assert live_module.splits_attention(loaded)
        packed = states_and_gradient(loaded)
        with monkeypatch.context() as patch:
            patch.setattr(live_module, "splits_attention", lambda _: False)
            usual = states_and_gradient(loaded)
    close = _CLOSE["float32" if variant in _CAST else dtype]
    for one, other in zip(packed, usual, strict=True):
        assert distance(one, other) < close
    assert float(packed[1].abs().max()) > 0
