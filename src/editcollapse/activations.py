"""Activation functions by one fused kernel where transformers spells them out.

GPT-2, GPT-J, GPT-Neo and Phi compute ``gelu_new`` as eight elementwise passes with a power among
them; on a CPU that takes as long as the matrix product before it. torch has the same function as
one kernel: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))). They agree to rounding.
"""

from torch import nn
from transformers import activations

_SPELLED_OUT = (activations.NewGELUActivation, activations.FastGELUActivation)
"""transformers' classes of the tanh-approximated GELU that are not one kernel."""


def fuse_activations_(model: nn.Module) -> int:
    """Put the fused kernel in the place of every spelled-out GELU; return how many there were.

    Weights and their names stay as they are: activations have none.
    """
    fused = 0
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _SPELLED_OUT):
                setattr(parent, name, nn.GELU(approximate="tanh"))
                fused += 1
    return fused
