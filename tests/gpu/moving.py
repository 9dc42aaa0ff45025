"""A model of the CPU on another device, in another type."""

import copy
import dataclasses

import torch
from torch import nn

from editcollapse.models import LoadedModel


def on_device(loaded: LoadedModel, device: torch.device, dtype: str) -> LoadedModel:
    """Return a copy of a float64 model on a device, its weights rounded to a type.

    Buffers keep their type, as when transformers loads a model in that type: rotary frequencies
    are float32 whatever the weights are.
    """
    model = copy.deepcopy(loaded.model)
    asked: torch.dtype = getattr(torch, dtype)
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if id(weight) not in made:  # tied weights stay tied
                moved = weight.detach().to(asked).to(device)
                made[id(weight)] = nn.Parameter(moved, requires_grad=False)
            module.register_parameter(name, made[id(weight)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, buffer.to(device), persistent=False)
    digests = dataclasses.replace(loaded.digests, dtype=dtype)
    return dataclasses.replace(loaded, model=model, digests=digests)
