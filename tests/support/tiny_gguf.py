"""Tiny random models as GGUF files, beside folders of safetensors that hold the same numbers.

Names, orders and offsets are those that llama.cpp's converter writes: queries and keys of llama
permuted, one added to Gemma's norms, GPT-2's matrices the other way round.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

from tests.support.toy_tokenizers import byte_tokenizer

N_LAYERS = 2
D_MODEL = 32
D_KEY = 64
N_HEADS = 4
N_KV_HEADS = 2
MAX_LENGTH = 80
_THETA = 50_000.0
_SPREAD = 0.25
_SIZES = {
    "num_hidden_layers": N_LAYERS,
    "hidden_size": D_MODEL,
    "intermediate_size": D_KEY,
    "num_attention_heads": N_HEADS,
    "num_key_value_heads": N_KV_HEADS,
    "max_position_embeddings": MAX_LENGTH,
    "rope_parameters": {"rope_type": "default", "rope_theta": _THETA},
}
_WINDOW = {"sliding_window": 8, "head_dim": 16}
_LOCAL = {"rope_type": "default", "rope_theta": 10_000.0}
_GLOBAL = {"rope_type": "default", "rope_theta": _THETA}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _SIZES),
    "qwen2": ("Qwen2Config", _SIZES),
    # transformers takes 128 for every Qwen3 that comes as a GGUF, and all published ones have that.
    "qwen3": ("Qwen3Config", _SIZES | {"head_dim": 128}),
    "gemma2": ("Gemma2Config", _SIZES | _WINDOW),
    "gemma3": (
        "Gemma3TextConfig",
        _SIZES
        | _WINDOW
        | {"rope_parameters": {"sliding_attention": _LOCAL, "full_attention": _GLOBAL}},
    ),
    "gpt2": ("GPT2Config", {"n_layer": N_LAYERS, "n_embd": D_MODEL, "n_head": N_HEADS}),
}
"""By the architecture's name in GGUF."""


@dataclasses.dataclass(frozen=True, slots=True)
class Twins:
    """One model, stored twice."""

    gguf: Path
    folder: Path


def write_twins(
    architecture: str,
    root: Path,
    kind: str = "F32",
    *,
    file_type: int | None = None,
    more: dict[str, str | int] | None = None,
) -> Twins:
    """Write a model as ``tiny.gguf`` and as a folder of float32 safetensors.

    Args:
        architecture: of ``CONFIGS``.
        root: where both go.
        kind: type of the matrices in the GGUF; the folder holds what they dequantise to.
        file_type: ``general.file_type``; none is written where left out.
        more: fields of the header beside those that the model needs.
    """
    class_name, fields = CONFIGS[architecture]
    tokenizer = byte_tokenizer()
    config = getattr(transformers, class_name)(
        vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, pad_token_id=None, **fields
    )
    model = AutoModelForCausalLM.from_config(config)
    _fill(model, torch.Generator().manual_seed(0))
    root.mkdir(parents=True, exist_ok=True)
    path = root / "tiny.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    _write_fields(writer, architecture, config, file_type)
    for name, value in (more or {}).items():
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(name, value)
    _write_tokenizer(writer, tokenizer)
    names = gguf.get_tensor_name_map(_architecture(architecture), N_LAYERS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            stem, _, ending = name.rpartition(".")
            theirs = f"{names.get_name(stem)}.{ending}"
            data = _theirs(architecture, theirs, parameter.float().numpy())
            stored = _stored(writer, theirs, data, kind)
            parameter.copy_(torch.from_numpy(_ours(architecture, theirs, stored)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    folder = root / "folder"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Twins(path, folder)


def _architecture(name: str) -> Any:
    return next(each for each, named in gguf.MODEL_ARCH_NAMES.items() if named == name)


def _fill(model: Any, generator: torch.Generator) -> None:
    """Fill the weights at random: norms around their start, matrices around 0."""
    with torch.no_grad():
        for parameter in model.parameters():
            centre = parameter.mean().round() if parameter.ndim == 1 else 0.0
            parameter.copy_(centre + _SPREAD * torch.randn(parameter.shape, generator=generator))


def _write_fields(writer: Any, architecture: str, config: Any, file_type: int | None) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(D_MODEL)
    writer.add_block_count(N_LAYERS)
    writer.add_feed_forward_length(4 * D_MODEL if architecture == "gpt2" else D_KEY)
    writer.add_head_count(N_HEADS)
    if file_type is not None:
        writer.add_file_type(file_type)
    if architecture == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(_THETA)
    width = getattr(config, "head_dim", None) or D_MODEL // N_HEADS
    writer.add_key_length(width)
    writer.add_value_length(width)
    if architecture == "llama":
        writer.add_rope_dimension_count(width)
    if architecture.startswith("gemma"):
        writer.add_sliding_window(config.sliding_window)


def _write_tokenizer(writer: Any, tokenizer: Any) -> None:
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if piece[:2] == "<|" else normal for piece in pieces])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([each if isinstance(each, str) else " ".join(each) for each in merges])
    writer.add_bos_token_id(pieces.index("<|endoftext|>"))
    writer.add_eos_token_id(pieces.index("<|endoftext|>"))
    writer.add_add_bos_token(False)


def _stored(writer: Any, name: str, data: np.ndarray, kind: str) -> np.ndarray:
    """Add a tensor; return it as it will be read."""
    data = np.ascontiguousarray(data)
    if kind == "F32" or data.ndim == 1:
        writer.add_tensor(name, data)
        return data
    code = gguf.GGMLQuantizationType[kind]
    packed = gguf.quantize(data, code)
    writer.add_tensor(name, packed, raw_dtype=code)
    return gguf.dequantize(packed, code)


_TURNED = ("attn_qkv.weight", "ffn_down.weight", "ffn_up.weight", "attn_output.weight")


def _theirs(architecture: str, name: str, data: np.ndarray) -> np.ndarray:
    """Return a tensor as llama.cpp's converter writes it."""
    if architecture == "llama" and (".attn_q." in name or ".attn_k." in name):
        heads = N_HEADS if ".attn_q." in name else N_KV_HEADS
        half = data.shape[0] // heads // 2
        return data.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(data.shape)
    if architecture.startswith("gemma") and "norm.weight" in name:
        return data + 1
    return data.T if architecture == "gpt2" and name.endswith(_TURNED) else data


def _ours(architecture: str, name: str, data: np.ndarray) -> np.ndarray:
    """Return a tensor of a GGUF as transformers names and orders it."""
    if architecture == "llama" and (".attn_q." in name or ".attn_k." in name):
        heads = N_HEADS if ".attn_q." in name else N_KV_HEADS
        half = data.shape[0] // heads // 2
        return data.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(data.shape)
    if architecture.startswith("gemma") and "norm.weight" in name:
        return data - 1
    return data.T.copy() if architecture == "gpt2" and name.endswith(_TURNED) else data
