"""Export an update as a LoRA adapter that peft loads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from editcollapse.errors import ModelError
from editcollapse.stored.export_options import KEPT, Base, ExportOptions, LayerLoss, Written
from editcollapse.stored.low_rank import BalancedFactors, balanced_factors
from editcollapse.stored.updates import StoredUpdate
from editcollapse.stored.weight_files import DTYPES


def write_adapter(
    folder: Path, update: StoredUpdate, base: Base, options: ExportOptions
) -> Written:
    """Write a LoRA adapter into an empty folder as peft stores it: W + B A, with a scaling of 1.

    Raises:
        ResultsError: the update is of full rank, and no rank is asked for.
        ModelError: the type that is asked for holds no numbers that large.
    """
    dtype = _adapter_dtype(update, options.dtype)
    parts = [balanced_factors(each, options.rank) for each in update.layers]
    row = base.architecture
    tensors: dict[str, Tensor] = {}
    losses = []
    for change, part in zip(update.layers, parts, strict=True):
        up, down = part.up.to(dtype), part.down.to(dtype)
        if not bool(torch.isfinite(up).all() and torch.isfinite(down).all()):
            raise ModelError(
                f"factors of layer {change.layer} hold numbers that {dtype} has not. Export with "
                "`dtype` float32."
            )
        path = f"base_model.model.{row.down_projection_in_model(part.layer)}"
        tensors[f"{path}.lora_A.weight"] = down.contiguous()
        tensors[f"{path}.lora_B.weight"] = up.contiguous()
        whole = float(change.matrix.norm())
        off = float((up.double() @ down.double() - part.up @ part.down).norm())
        losses.append(LayerLoss(part.layer, part.rank, off / whole if whole else 0.0, part.lost))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.dumps(_lora_config(parts, base), indent=2)
    (folder / "adapter_config.json").write_text(f"{config}\n", encoding="utf-8")
    notes = [
        f"Layer {part.layer}: {part.rank} of the update's directions; what is left out is "
        f"{part.lost:.3g} of its Frobenius norm, and its largest singular value there "
        f"{part.largest_lost:.3g} of the largest."
        for part in parts
        if part.lost
    ]
    given = f'"{base.name}"'
    if base.found is not None and base.found.files.gguf is not None:
        given = f'"its folder", gguf_file="{base.name}"'
        notes.append(
            f"The base is the GGUF file `{base.name}`: transformers dequantises it, and the "
            "adapter is of those numbers."
        )
    usage = (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM\n\n"
        f"base = AutoModelForCausalLM.from_pretrained({given})\n"
        'model = PeftModel.from_pretrained(base, "this folder")\n'
        "unedited = model.unload()  # or merge_and_unload() for the edited weights\n"
    )
    what = "A LoRA adapter whose product is the update; the base's weights stay as they are."
    return Written(tuple(losses), tuple(notes), what, usage, "peft", "adapter")


def _adapter_dtype(update: StoredUpdate, asked: str) -> torch.dtype:
    if asked != KEPT:
        return DTYPES[asked]
    return torch.float64 if update.spec.dtype == "float64" else torch.float32


def _lora_config(parts: Sequence[BalancedFactors], base: Base) -> dict[str, Any]:
    """Return the configuration as peft writes it.

    A layer of another rank than the first stands in the patterns, with alpha equal to its rank: the
    scaling of every layer is 1.
    """
    paths = {each.layer: base.architecture.down_projection_in_model(each.layer) for each in parts}
    rank = parts[0].rank
    others = {paths[each.layer]: each.rank for each in parts if each.rank != rank}
    return {
        "alpha_pattern": others,
        "auto_mapping": None,
        "base_model_name_or_path": base.name,
        "bias": "none",
        "fan_in_fan_out": base.architecture.transposed,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": others,
        "revision": base.revision,
        "target_modules": list(paths.values()),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
