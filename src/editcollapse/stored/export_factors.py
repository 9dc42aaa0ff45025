"""Export the bare update: factors, or whole matrices."""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from editcollapse.errors import ModelError
from editcollapse.stored.export_options import KEPT, Base, ExportOptions, LayerLoss, Written
from editcollapse.stored.updates import StoredUpdate
from editcollapse.stored.weight_files import DTYPES


def write_factors(
    folder: Path, update: StoredUpdate, base: Base, options: ExportOptions
) -> Written:
    """Write an update into an empty folder as it is stored.

    Raises:
        ModelError: the type that is asked for holds no numbers that large.
    """
    dtype = torch.float64 if options.dtype == KEPT else DTYPES[options.dtype]
    tensors: dict[str, Tensor] = {}
    losses = []
    for change in update.layers:
        layer, exact = change.layer, change.matrix
        if change.right is None:
            tensors[f"whole.{layer}"] = change.left.to(dtype).contiguous()
            stored = tensors[f"whole.{layer}"].double()
        else:
            tensors[f"left.{layer}"] = change.left.to(dtype).contiguous()
            tensors[f"right.{layer}"] = change.right.to(dtype).contiguous()
            stored = tensors[f"left.{layer}"].double() @ tensors[f"right.{layer}"].double()
        whole = float(exact.norm())
        rounded = float((stored - exact).norm()) / whole if whole else 0.0
        losses.append(LayerLoss(layer, change.rank, rounded, 0.0))
        if not math.isfinite(rounded):
            raise ModelError(
                f"the update of layer {layer} holds numbers that {dtype} has not. Export with "
                "`dtype` kept."
            )
    save_file(tensors, folder / "factors.safetensors", metadata={"format": "pt"})
    usage = (
        "from safetensors.torch import load_file\n\n"
        'factors = load_file("factors.safetensors")\n'
        "# dW = left @ right of a layer, (D, K); or the whole dW where it is of full rank\n"
    )
    path = base.architecture.down_projection_in_model(update.layers[0].layer)
    stored_as = "transposed, as Conv1D has it" if base.architecture.transposed else "as it is"
    note = f"W of a layer is `{path}.weight` and its like, {stored_as}."
    what = "The bare update: what is added to W, layer by layer."
    return Written(tuple(losses), (note,), what, usage, "safetensors", None)
