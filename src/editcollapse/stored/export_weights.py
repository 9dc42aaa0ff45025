"""Export the edited model as a Hugging Face folder.

Of safetensors files everything but the edited matrices is copied byte by byte; a GGUF file's
weights are written as transformers dequantises them.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editcollapse.errors import ModelError
from editcollapse.models.loading import whole_model
from editcollapse.runtime.environment import Report, tell
from editcollapse.stored.export_options import KEPT, Base, ExportOptions, LayerLoss, Written
from editcollapse.stored.models import BaseModel
from editcollapse.stored.updates import LayerUpdate, StoredUpdate
from editcollapse.stored.weight_files import (
    DTYPES,
    down_projection_name,
    stored_tensors,
    write_weights,
)
from editcollapse.stored.weights import in_weights, stored_weight

_BESIDE = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "LICENSE*", "LICENCE*")
_NOT_BESIDE = re.compile(r".*\.index\.json|adapter_config\.json|editcollapse\.json")


def write_model(folder: Path, update: StoredUpdate, base: Base, options: ExportOptions) -> Written:
    """Write the edited model into an empty folder.

    Raises:
        ModelError: the unedited model is not known or is of other sizes, or the type that is asked
            for holds no numbers that large.
    """
    if base.found is None:
        raise ModelError(
            f"edited weights are those of {base.name} and the update, and the model is not found. "
            "Say where it lies with `model`, or export an adapter or factors."
        )
    dtype = None if options.dtype == KEPT else DTYPES[options.dtype]
    is_gguf = base.found.files.gguf is not None
    write = _dequantised if is_gguf else _from_files
    losses, notes = write(folder, update, base.found, dtype, options)
    coarse = [each for each in losses if each.rounded > _MUCH]
    if coarse:
        worst = max(each.rounded for each in coarse)
        notes = (
            *notes,
            (
                f"Rounding to the type of the weights has changed the update by {worst:.2g} of "
                "its norm: export with dtype float32 to keep it."
            ),
        )
    usage = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained("this folder")\n'
        'tokenizer = AutoTokenizer.from_pretrained("this folder")\n'
    )
    what = "The whole model, with the update in its weights; all other weights are the base's."
    return Written(losses, notes, what, usage, "transformers", "finetune")


_MUCH = 1e-3
"""Relative rounding of an update from which on a card speaks of it."""


def _from_files(
    folder: Path,
    update: StoredUpdate,
    base: BaseModel,
    dtype: torch.dtype | None,
    options: ExportOptions,
) -> tuple[tuple[LayerLoss, ...], tuple[str, ...]]:
    """Write the model of safetensors files, tensor by tensor, with what lies beside them."""
    files = base.files
    tensors = stored_tensors(files)
    losses: dict[int, LayerLoss] = {}

    def changed(change: LayerUpdate) -> Callable[[Tensor, torch.dtype], Tensor]:
        def edited(stored: Tensor, target: torch.dtype) -> Tensor:
            turned = files.architecture.transposed
            new, loss = _edited(stored.T if turned else stored, change, target)
            losses[change.layer] = loss
            return new.T if turned else new

        return edited

    changes = {
        down_projection_name(files, tensors, each.layer): changed(each) for each in update.layers
    }
    write_weights(folder, tensors, changes, dtype, options.shard_bytes)
    _copy_beside(files.folder, folder)
    if dtype is not None:
        _say_dtype(folder / "config.json", options.dtype)
    return tuple(losses[layer] for layer in sorted(losses)), ()


def _dequantised(
    folder: Path,
    update: StoredUpdate,
    base: BaseModel,
    dtype: torch.dtype | None,
    options: ExportOptions,
) -> tuple[tuple[LayerLoss, ...], tuple[str, ...]]:
    """Write the model of a GGUF file as transformers reads it: plain numbers."""
    from transformers import AutoModelForCausalLM

    files, own = base.files, DTYPES[base.spec.dtype]
    tell(Report(f"export: reading {files.source}"))
    model, tokenizer = whole_model(AutoModelForCausalLM, files, files.text_part, dtype=dtype or own)
    losses = []
    for change in update.layers:
        weight = stored_weight(model, files.architecture, change.layer)
        losses.append(_edited(weight, change, weight.dtype)[1])
    with in_weights(model, update):
        tell(Report("export: writing the weights"))
        _forget_codes(model)
        model.save_pretrained(folder, max_shard_size=options.shard_bytes)
    tokenizer.save_pretrained(folder)
    name = str(model.dtype).removeprefix("torch.")
    note = (
        f"The base is the GGUF file `{files.source}` of {files.quantization or 'plain numbers'}: "
        f"these are its weights dequantised to {name}, not those that it was quantised from."
    )
    return tuple(losses), (note,)


def _forget_codes(model: Any) -> None:
    """Take from a model that it came from codes: its weights are numbers, and are saved as such."""
    model.hf_quantizer = None
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config


def _edited(weight: Tensor, change: LayerUpdate, dtype: torch.dtype) -> tuple[Tensor, LayerLoss]:
    """Return W + dW rounded once to a type, and what rounding has changed.

    Raises:
        ModelError: sizes differ, or the type holds no number that large.
    """
    matrix = change.matrix
    if matrix.shape != weight.shape:
        raise ModelError(
            f"the update of layer {change.layer} is {tuple(matrix.shape)}, and W of the model "
            f"there {tuple(weight.shape)}. Give the model that was edited."
        )
    before = weight.detach().to("cpu", torch.float64)
    edited = (before + matrix).to(dtype)
    if not bool(torch.isfinite(edited).all()):
        raise ModelError(
            f"layer {change.layer} with the update holds numbers that {dtype} has not. Export with "
            "`dtype` bfloat16 or float32."
        )
    whole = float(matrix.norm())
    rounded = float((edited.double() - before - matrix).norm()) / whole if whole else 0.0
    return edited, LayerLoss(change.layer, None, rounded, 0.0)


def _copy_beside(source: Path, folder: Path) -> None:
    """Copy configuration, tokenizer, generation settings and licence texts."""
    for pattern in _BESIDE:
        for path in sorted(source.glob(pattern)):
            if path.is_file() and not _NOT_BESIDE.fullmatch(path.name):
                shutil.copyfile(path, folder / path.name)


def _say_dtype(path: Path, dtype: str) -> None:
    """Name another type of the weights in a configuration."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            part.pop("torch_dtype", None)
            part["dtype"] = dtype
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
