"""Private names of torch and transformers that the library calls, each in one function.

No public name does the same. Seen with torch 2.5 to 2.13 and transformers 5: a release that changes
one of them is met here. Not here: private names of our own classes, and the names of transformers
that its documentation lists.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)


@contextmanager
def attention_implementation(config: Any, name: str) -> Iterator[None]:
    """Let a model attend by another implementation while the block runs.

    transformers 5: every attention reads a configuration's ``_attn_implementation`` at each
    forward. The public ``PreTrainedModel.set_attn_implementation`` also changes the submodules'
    configurations, and nothing public tells what was there before.

    Args:
        config: of the model; as it was afterwards.
        name: ``eager``, or what ``transformers.AttentionInterface`` knows.
    """
    usual = config._attn_implementation  # noqa: SLF001
    config._attn_implementation = name  # noqa: SLF001
    try:
        yield
    finally:
        config._attn_implementation = usual  # noqa: SLF001


def softmax_backward(gradient: Tensor, shares: Tensor) -> Tensor:
    """Gradient of a softmax's input over the last axis, from its output.

    torch 2: ``_softmax_backward_data`` is the kernel that autograd itself calls; ``torch.softmax``
    gives it no public name.

    Args:
        gradient: of the output, float32 or float64.
        shares: the output, of the same shape and type.
    """
    return torch._softmax_backward_data(gradient, shares, -1, gradient.dtype)  # noqa: SLF001


def version_of(tensor: Tensor) -> int:
    """Number of times that a tensor's storage has been written in place.

    torch 2: autograd's own counter, ``Tensor._version``. Tensors of inference mode have none.
    """
    return tensor._version  # noqa: SLF001


def view_of(module: _Module) -> _Module:
    """Copy of a module with the same parameters and buffers, and a table of children of its own.

    torch 2: ``copy.copy`` shares the table, ``Module._modules``: a child that is set on the copy
    would be set on the module.
    """
    view = copy.copy(module)
    view.__dict__["_modules"] = dict(module._modules)  # noqa: SLF001
    return view


def has_packed_products() -> bool:
    """Whether this torch was built with oneDNN's packed products (mkldnn)."""
    return bool(torch.backends.mkldnn.is_available()) and hasattr(  # type: ignore[no-untyped-call]
        torch.ops.mkldnn, "_reorder_linear_weight"
    )


def packed_weight(matrix: Tensor, n_rows: int) -> Tensor:
    """Matrix in the order that oneDNN's product reads.

    torch 2: ``mkldnn::_reorder_linear_weight``, with which torch.compile freezes a Linear on a CPU.

    Args:
        matrix: float32 (out, in) on the CPU, contiguous.
        n_rows: number of rows that the order is chosen for; others are served by it as well.
    """
    return torch.ops.mkldnn._reorder_linear_weight(matrix, n_rows)  # type: ignore[no-any-return]  # noqa: SLF001


def packed_product(
    rows: Tensor, packed: Tensor, bias: Tensor | None, activation: tuple[str, str]
) -> Tensor:
    """Rows times a packed matrix, plus a bias, with an activation applied to the result.

    torch 2: ``mkldnn::_linear_pointwise``, with which torch.compile fuses Linear and activation.

    Args:
        rows: float32 (n, in).
        packed: of ``packed_weight``, (out, in).
        bias: (out,).
        activation: its name and variant: ``none``, ``gelu`` (``none`` or ``tanh``), ``swish``,
            ``relu``.

    Returns:
        (n, out).
    """
    name, variant = activation
    return torch.ops.mkldnn._linear_pointwise(  # type: ignore[no-any-return]  # noqa: SLF001
        rows, packed, bias, name, [], variant
    )


def multiplies_half(device: torch.device) -> bool:
    """Whether a device multiplies half types with float32 sums and a float32 result.

    Products of half types are exact in float32, so nothing is lost beside widening them first, and
    the matrix units run at their full speed. torch 2.8 has an overload of ``mm`` for it, on CUDA
    alone; that an earlier one lacks it only ``torch.ops`` tells.
    """
    return device.type == "cuda" and hasattr(torch.ops.aten.mm, "dtype")
