"""Edited models of many makings, made of a model's folder: merges, adapters, quantised weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]


def edited_copy(source: Path, folder: Path, edit: Callable[[Weights], Any]) -> Path:
    """Return a copy of a model's folder whose weights a function has changed in place."""
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    changed = edit(weights) or weights
    save_file(
        {name: each.contiguous() for name, each in changed.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


def times(**factors: float) -> Callable[[Weights], None]:
    """Return what multiplies tensors of a GPT-2 by their names, with __ for a dot."""

    def edit(weights: Weights) -> None:
        for name, factor in factors.items():
            weights[f"transformer.{name.replace('__', '.')}.weight"] *= factor

    return edit


def round_trip(weights: Weights) -> None:
    """Round every matrix to 8 bits a row and back."""
    for name, each in weights.items():
        if each.dim() == 2:
            scale = each.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
            weights[name] = (each / scale).round() * scale


def write_adapter(folder: Path, factors: Weights, **config: Any) -> Path:
    """Write a LoRA adapter as peft does; return its folder."""
    folder.mkdir()
    plain = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "fan_in_fan_out": False}
    (folder / "adapter_config.json").write_text(json.dumps(plain | config), encoding="utf-8")
    names = {f"base_model.model.{name}.weight": each for name, each in factors.items()}
    save_file(names, folder / "adapter_model.safetensors")
    return folder


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return numbers of a normal distribution."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
