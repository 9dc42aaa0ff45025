"""Packed linear layers: on a CPU one packed copy of a weight matrix serves all its products.

A matrix product copies its weights into the order that its kernel reads, every time. The weights of
a resident model never change, so here oneDNN, the library behind torch's own CPU kernels, packs
each matrix once, when it is first used: a fifth faster for many rows, several times for a few. The
gradient of v* multiplies by the transposed matrix, which is packed likewise. Where no gradient is
asked for, an MLP's activation is applied to a product while it is in the cache.

float32 on a CPU only; anywhere else the modules compute as they did. Results are those of the plain
product to rounding. Packed copies take as much memory as the matrices, once for each direction that
is used: ``memory.packed_bytes``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import activations
from transformers.pytorch_utils import Conv1D

from editcollapse.compat import has_packed_products, packed_product, packed_weight, version_of

Fused = tuple[str, str]
"""An activation as oneDNN names it, with its variant."""


def fused(activation: nn.Module) -> Fused | None:
    """Return oneDNN's name of an activation that it can fuse with a product; None for others."""
    if isinstance(activation, nn.GELU):
        return ("gelu", activation.approximate)
    known: dict[type, Fused] = {
        activations.GELUActivation: ("gelu", "none"),
        activations.GELUTanh: ("gelu", "tanh"),
        activations.SiLUActivation: ("swish", ""),
        nn.SiLU: ("swish", ""),
        nn.ReLU: ("relu", ""),
    }
    return known.get(type(activation))


class PackedMatrix:
    """A matrix (out, in) packed for one direction of one product; packed again if it has changed.

    Args:
        matrix: float32 on the CPU, any strides; a view of a parameter.
    """

    _EXPECTED_ROWS = 1024
    """What the order is chosen for; it serves other numbers of rows as it is."""
    _FEW, _STEP = 512, 16
    """oneDNN compiles a kernel for every number of rows, which takes as long as a product with some
    hundred rows. Fewer than ``_FEW`` are filled up to a multiple of ``_STEP``, so that kernels
    come again."""

    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix
        self._version = -1
        self._packed: Tensor | None = None

    def times(self, rows: Tensor, bias: Tensor | None, then: "Fused | None" = None) -> Tensor:
        """Return rows (n, in) times the matrix, plus the bias (out,), as (n, out).

        Args:
            rows: float32.
            bias: of the product.
            then: an activation of the result.
        """
        version = version_of(self._matrix)
        if self._packed is None or self._version != version:
            self._version = version
            with torch.inference_mode(mode=False), torch.no_grad():
                self._packed = packed_weight(self._matrix.contiguous(), self._EXPECTED_ROWS)
        n_rows = len(rows)
        missing = -n_rows % self._STEP if n_rows < self._FEW else 0
        if missing:
            rows = functional.pad(rows, (0, 0, 0, missing))
        return packed_product(rows, self._packed, bias, then or ("none", ""))[:n_rows]


class _ModuleView(nn.Module):
    """Takes a module's place in a model and is no parent of it: every weight has one name."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self._own = [own]

    @property
    def own(self) -> nn.Module:
        """The module that it stands for."""
        return self._own[0]


class PackedLinear(_ModuleView):
    """A Linear or Conv1D whose matrix stands packed; weight and bias are the module's own.

    Args:
        linear: what it stands for.
    """

    def __init__(self, linear: nn.Module) -> None:
        super().__init__(linear)
        assert isinstance(linear.weight, nn.Parameter)
        self.weight = linear.weight
        bias: Any = linear.bias
        self.bias: nn.Parameter | None = bias
        matrix = linear.weight.detach()
        matrix = matrix.T if isinstance(linear, Conv1D) else matrix
        self.there, self.back = PackedMatrix(matrix), PackedMatrix(matrix.T)
        self._activation: list[nn.Module] = []
        self._fused: Fused | None = None

    def absorb_(self, activation: nn.Module, known: Fused) -> None:
        """Apply an activation to every product from now on."""
        self._activation, self._fused = [activation], known

    def forward(self, rows: Tensor) -> Tensor:
        """Return the module's output, (..., out)."""
        on_cpu = rows.device.type == "cpu" and self.weight.device.type == "cpu"
        if not on_cpu or rows.dtype != torch.float32 or rows.numel() == 0:
            return self._activated(self.own(rows))
        flat = rows.reshape(-1, rows.shape[-1])
        if torch.is_grad_enabled() and rows.requires_grad:
            product = self._activated(_Product.apply(flat, self))  # type: ignore[no-untyped-call]
        else:
            product = self.there.times(flat, self.bias, self._fused)
        return product.view(*rows.shape[:-1], -1)

    def _activated(self, product: Tensor) -> Tensor:
        for activation in self._activation:
            product = activation(product)
        return product


class _Absorbed(_ModuleView):
    """Stands where an activation stood that a product applies now."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the input."""
        return hidden


class _Product(torch.autograd.Function):
    """A packed product with the gradient of its rows; the weights take none."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, linear: PackedLinear) -> Tensor:
        """Return the product."""
        ctx.linear = linear
        return linear.there.times(rows, linear.bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the rows."""
        return ctx.linear.back.times(gradient.contiguous(), None), None


def pack_products_(model: nn.Module) -> int:
    """Put packed products in the place of a model's linear maps; return how many there are.

    Only float32 weights on a CPU that take no gradients are packed. Weights and their names stay
    as they are.
    """
    if not has_packed_products():
        return 0
    packed = 0
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) not in {nn.Linear, Conv1D} or child.weight.requires_grad:
                continue
            if child.weight.device.type == "cpu" and child.weight.dtype == torch.float32:
                setattr(parent, name, PackedLinear(child))
                packed += 1
    return packed


def absorb_activation_(block: nn.Module, projection: str, activation: str) -> bool:
    """Let a packed product of a block apply the activation that reads it; return whether it does.

    Args:
        block: whose activation hands on what comes in from then on.
        projection: path of the product in the block; nothing but the activation may read it.
        activation: path of the activation.
    """
    product, follows = block.get_submodule(projection), block.get_submodule(activation)
    known = fused(follows)
    if known is None or not isinstance(product, PackedLinear):
        return False
    product.absorb_(follows, known)
    parent, _, name = activation.rpartition(".")
    setattr(block.get_submodule(parent), name, _Absorbed(follows))
    return True


@contextmanager
def plain_products(model: nn.Module) -> Iterator[int]:
    """Let a model compute with its own modules for a while; yields how many products are packed.

    For checks: studies always take the packed ones.
    """
    replaced = [
        (parent, name, child)
        for parent in list(model.modules())
        for name, child in parent.named_children()
        if isinstance(child, _ModuleView)
    ]
    for parent, name, child in replaced:
        setattr(parent, name, child.own)
    try:
        yield sum(isinstance(child, PackedLinear) for _, _, child in replaced)
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)
