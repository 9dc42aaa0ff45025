"""Lower bound of the work: its FLOPs and weight bytes at the device's measured speeds.

Counted are the linear layers of the blocks that have to run on the tokens that have to run, real
tokens only, and the head where the loss reads it: 2 FLOP a weight and token forwards, 2 more
backwards (activations alone; weights take no gradients). Attention, norms and activations are left
out, so this is a floor, not an estimate. Weights are read once a forward and once a backward.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import nn

from benchmarks.machine import product_rate, timed
from editcollapse.forward.rewrites import Rewrite
from editcollapse.models.loading import LoadedModel

_PRODUCT = {"cpu": 1024}
_ACCELERATOR_PRODUCT = 8192
_COPIED_BYTES = {"cpu": 1 << 28}
_ACCELERATOR_COPIED_BYTES = 1 << 32
_REPEATS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Speeds:
    """Best speeds of the device, measured."""

    flops_per_s: float
    """Of a square matrix product in the type of the weights."""
    bytes_per_s: float
    """Read plus written by a copy."""


@dataclasses.dataclass(frozen=True, slots=True)
class Floor:
    """The least that one piece of work takes."""

    flops: float
    n_bytes: float
    seconds: float
    """The larger of FLOPs over FLOP/s and bytes over bytes/s."""

    @classmethod
    def of(cls, flops: float, n_bytes: float, speeds: Speeds) -> "Floor":
        """Return the floor of some FLOPs and bytes."""
        return cls(flops, n_bytes, max(flops / speeds.flops_per_s, n_bytes / speeds.bytes_per_s))


def measure_speeds(device: torch.device, dtype: torch.dtype) -> Speeds:
    """Return the device's speeds in products of a type and in copies."""
    size = _PRODUCT.get(device.type, _ACCELERATOR_PRODUCT)
    n_bytes = _COPIED_BYTES.get(device.type, _ACCELERATOR_COPIED_BYTES)
    source = torch.zeros(n_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    best = min(timed(lambda: target.copy_(source), device) for _ in range(_REPEATS))
    return Speeds(product_rate(size, size, size, device, dtype), 2 * n_bytes / best)


def values_floor(
    loaded: LoadedModel,
    layer: int,
    rewrites: Sequence[Rewrite],
    n_passes: Sequence[int],
    n_groups: int,
    speeds: Speeds,
) -> Floor:
    """Return the floor of v* for a batch: one read, then suffix tokens above the layer each pass.

    Args:
        loaded: the model.
        layer: the edited block.
        rewrites: the batch.
        n_passes: of each edit.
        n_groups: groups that the batch ran in; each reads the weights for itself.
        speeds: of the device.
    """
    below = _weights(loaded.blocks[: layer + 1])
    above = _weights(loaded.blocks[layer + 1 :])
    head = loaded.widths.n_vocabulary * loaded.widths.d_model
    first, last = (
        _input_weights(loaded, layer + 1),
        _input_weights(loaded, loaded.widths.n_layers - 1),
    )
    behind = _weights(loaded.blocks[-1]) - last
    flops = 0.0
    for rewrite, passes in zip(rewrites, n_passes, strict=True):
        n_rows, n_suffix = len(rewrite.rows), rewrite.n_suffix
        n_tokens = sum(len(row) for row in rewrite.rows)
        n_scored = len(rewrite.target) * len(rewrite.prompts) + 1
        flops += 2.0 * below * n_tokens + 2.0 * above * (n_tokens - n_suffix)
        # The first entry is worked out for subjects alone, the last block behind its entry for
        # the tokens that are read.
        each = above * n_suffix - first * (n_suffix - n_rows) - behind * (n_suffix - n_scored)
        flops += 4.0 * passes * (each + head * n_scored)
    number = torch.empty(0, dtype=loaded.dtype).element_size()
    n_bytes = number * n_groups * (below + 2.0 * max(n_passes) * (above + head))
    return Floor.of(flops, n_bytes, speeds)


def perplexity_floor(
    loaded: LoadedModel, layer: int, rows: Sequence[Sequence[int]], n_models: int, speeds: Speeds
) -> Floor:
    """Return the floor of the perplexity of edited models: blocks above the layer, and the head.

    The entry of the first of them is a sum of known products.
    """
    above = _weights(loaded.blocks[layer + 1 :]) - _input_weights(loaded, layer + 1)
    head = loaded.widths.n_vocabulary * loaded.widths.d_model
    n_tokens = sum(len(row) - 1 for row in rows)
    number = torch.empty(0, dtype=loaded.dtype).element_size()
    flops = 2.0 * n_models * n_tokens * (above + head)
    return Floor.of(flops, float(number * (above + head)), speeds)


def covariance_floor(loaded: LoadedModel, layer: int, n_tokens: int, speeds: Speeds) -> Floor:
    """Return the floor of C: blocks up to the key, and half of the symmetric k kᵀ."""
    weights = _weights(loaded.blocks[: layer + 1]) - loaded.weight(layer).numel()
    flops = n_tokens * (2.0 * weights + loaded.widths.d_key**2)
    number = torch.empty(0, dtype=loaded.dtype).element_size()
    return Floor.of(flops, float(number * weights), speeds)


def _input_weights(loaded: LoadedModel, layer: int) -> int:
    """Return the entries of the matrices that read a block's input; 0 where there is no block."""
    if layer >= loaded.widths.n_layers:
        return 0
    block = loaded.blocks[layer]
    paths = [path for each in loaded.input_norms for path in each.projections]
    return sum(_weights(block.get_submodule(path)) for path in paths)


def _weights(blocks: nn.Module) -> int:
    """Return the entries of all matrices."""
    return sum(each.numel() for each in blocks.parameters() if each.ndim > 1)
