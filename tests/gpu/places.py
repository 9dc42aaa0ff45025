"""Where the tests of this folder run, and how a model of the CPU gets there."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from editcollapse.models.loading import LoadedModel
from tests.support.tiny import VARIANTS

SOME = ("gpt2", "gemma2")
"""Families unlike each other, for the default tests: packed attention and the family's own, a gate
or none, norms behind the MLP, soft caps and windows."""
DEMO = ("gpt2-induced", "llama-induced")
"""Embedded models that ROME collapses."""


def everywhere(names, emulated=None, emulated_marks=()):
    """Return a decorator: a test on the accelerator for all models, emulated for some.

    Args:
        names: of models.
        emulated: of those that the emulated accelerator takes too; all where left out.
        emulated_marks: of the emulated ones.
    """
    some = names if emulated is None else emulated
    cases = [
        *(pytest.param("accelerator", name, marks=pytest.mark.gpu) for name in names),
        *(pytest.param("emulated", name, marks=emulated_marks) for name in some),
    ]
    return pytest.mark.parametrize(("accelerator", "variant"), cases, indirect=["accelerator"])


all_families = everywhere(tuple(VARIANTS), SOME)
all_families_two_emulated = everywhere(tuple(VARIANTS), ("gpt2", "llama"))
"""For what the CPU's tests hold of every family."""


def on_device(loaded: LoadedModel, device: torch.device, dtype: str) -> LoadedModel:
    """Return a float64 model of the CPU on a device, its weights rounded to a type."""
    model = moved(loaded.model, device, getattr(torch, dtype))
    digests = dataclasses.replace(loaded.digests, dtype=dtype)
    return dataclasses.replace(loaded, model=model, digests=digests)


def moved(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a model on a device, its weights rounded to a type.

    Buffers keep their type, as when transformers loads a model in that type: rotary frequencies
    are float32 whatever the weights are.
    """
    model = copy.deepcopy(model)
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if id(weight) not in made:  # tied weights stay tied
                there = weight.detach().to(dtype).to(device)
                made[id(weight)] = nn.Parameter(there, requires_grad=False)
            module.register_parameter(name, made[id(weight)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, buffer.to(device), persistent=False)
    return model
