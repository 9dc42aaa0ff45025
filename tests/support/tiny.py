"""Tiny random models of every family, saved as real folders: weights, configuration, tokenizer.

Each folder is what ``save_pretrained`` writes, so the tests read it through ``load_model``. Widths
differ (K is not D) but for two square models, where a transposed weight would go unnoticed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from tests.support.toy_tokenizers import byte_tokenizer, word_tokenizer

N_LAYERS = 3
D_MODEL = 16
D_KEY = 24
WINDOW = 6
"""Sliding attention window: smaller than nearly every test sequence."""
MAX_LENGTH = 80
_SPREAD = 0.25
"""Standard deviation of the weights: large enough that nothing is nearly linear."""


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """One tiny model: its configuration class and fields, and which tokenizer stands beside it."""

    config: str
    tokenizer: str
    """``words``, ``words_bos`` (adds its start token by itself), or ``bytes``."""
    fields: dict[str, Any]
    d_key: int = D_KEY
    vision: dict[str, Any] | None = None
    """Fields of a vision tower: the text model lies in a multimodal checkpoint."""

    @property
    def start(self) -> bool:
        """Whether prompts open with a start token."""
        return self.tokenizer == "words_bos"


def _named(**other: Any) -> dict[str, Any]:
    """Return sizes under the names that most families use."""
    sizes = {
        "num_hidden_layers": N_LAYERS,
        "hidden_size": D_MODEL,
        "num_attention_heads": 4,
        "intermediate_size": D_KEY,
        "max_position_embeddings": MAX_LENGTH,
    }
    return sizes | other


def _gpt(**other: Any) -> dict[str, Any]:
    """Return sizes under GPT-2's and GPT-J's names."""
    sizes = {"n_layer": N_LAYERS, "n_embd": D_MODEL, "n_head": 4, "n_inner": D_KEY}
    return sizes | {"n_positions": MAX_LENGTH} | other


_GROUPED = {"num_key_value_heads": 2, "head_dim": 4}
_GEMMA = _GROUPED | {"sliding_window": WINDOW, "query_pre_attn_scalar": 4}
_NEO = {
    "num_layers": N_LAYERS,
    "hidden_size": D_MODEL,
    "num_heads": 4,
    "intermediate_size": D_KEY,
    "max_position_embeddings": MAX_LENGTH,
    "attention_types": [[["global", "local", "global"], 1]],
    "window_size": WINDOW,
}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
_CAPS = {"final_logit_softcapping": 4.0, "attn_logit_softcapping": 2.0}
_MULTIPLIERS = {
    "residual_multiplier": 0.6,
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.4,
    "logits_scaling": 2.5,
}
_ROPE = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
_HALF_ROTARY = {"rope_parameters": _ROPE}
_FALCON = {"bias": True, "ffn_hidden_size": D_KEY}
_VISION = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
_SQUARE = {"intermediate_size": D_MODEL, "tie_word_embeddings": True}

VARIANTS: dict[str, Variant] = {
    "gpt2": Variant("GPT2Config", "words", _gpt()),
    "gpt2_untied_square": Variant(
        "GPT2Config", "words", _gpt(tie_word_embeddings=False, n_inner=D_MODEL), D_MODEL
    ),
    "gptj": Variant("GPTJConfig", "words", _gpt(rotary_dim=2)),
    "gpt_neo": Variant("GPTNeoConfig", "words", _NEO),
    "gpt_neox_parallel": Variant("GPTNeoXConfig", "words", _named(use_parallel_residual=True)),
    "gpt_neox_sequential": Variant(
        "GPTNeoXConfig", "words_bos", _named(use_parallel_residual=False)
    ),
    "llama": Variant("LlamaConfig", "words_bos", _named(num_key_value_heads=2)),
    "llama_square": Variant("LlamaConfig", "words", _named(**_SQUARE), D_MODEL),
    "mistral": Variant("MistralConfig", "words_bos", _named(**_GROUPED, sliding_window=WINDOW)),
    "qwen2": Variant("Qwen2Config", "bytes", _named(num_key_value_heads=2)),
    "qwen3": Variant("Qwen3Config", "words", _named(**_GROUPED)),
    "gemma2": Variant("Gemma2Config", "words_bos", _named(**_GEMMA, **_CAPS)),
    "gemma3_text": Variant("Gemma3TextConfig", "words_bos", _named(**_GEMMA, layer_types=_MIXED)),
    "gemma3_multimodal": Variant(
        "Gemma3Config",
        "words_bos",
        _named(**_GEMMA, layer_types=_MIXED),
        vision=_VISION,
    ),
    "phi": Variant("PhiConfig", "words", _named()),
    "phi3": Variant("Phi3Config", "words_bos", _named(num_key_value_heads=2)),
    "olmo2": Variant("Olmo2Config", "words", _named(num_key_value_heads=2)),
    "olmo3": Variant(
        "Olmo3Config",
        "words",
        _named(num_key_value_heads=2, layer_types=_MIXED, sliding_window=WINDOW),
    ),
    "smollm3": Variant(
        "SmolLM3Config",
        "words",
        _named(num_key_value_heads=2, no_rope_layers=[1, 1, 0]),
    ),
    "granite": Variant("GraniteConfig", "words", _named(num_key_value_heads=2, **_MULTIPLIERS)),
    "stablelm": Variant(
        "StableLmConfig",
        "words",
        _named(num_key_value_heads=2, use_qkv_bias=True, qk_layernorm=True, **_HALF_ROTARY),
    ),
    "stablelm_parallel": Variant(
        "StableLmConfig",
        "words",
        _named(num_key_value_heads=2, use_parallel_residual=True, **_HALF_ROTARY),
    ),
    "gemma": Variant("GemmaConfig", "words_bos", _named(**_GROUPED)),
    "glm4": Variant("Glm4Config", "words", _named(**_GROUPED, attention_bias=True)),
    "cohere": Variant(
        "CohereConfig",
        "words_bos",
        _named(num_key_value_heads=2, use_qk_norm=True, logit_scale=0.3),
    ),
    "cohere2": Variant(
        "Cohere2Config",
        "words_bos",
        _named(**_GROUPED, layer_types=_MIXED, sliding_window=WINDOW, logit_scale=0.3),
    ),
    "falcon": Variant("FalconConfig", "words", _named(**_FALCON, multi_query=True)),
    "falcon_two_norms": Variant(
        "FalconConfig",
        "words",
        _named(new_decoder_architecture=True, num_kv_heads=2, ffn_hidden_size=D_KEY),
    ),
    "falcon_one_norm": Variant(
        "FalconConfig",
        "words",
        _named(**_FALCON, new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1),
    ),
    "falcon_sequential": Variant(
        "FalconConfig",
        "words",
        _named(**_FALCON, multi_query=False, parallel_attn=False, alibi=True),
    ),
    "bloom": Variant(
        "BloomConfig",
        "words",
        {"n_layer": N_LAYERS, "hidden_size": D_MODEL, "n_head": 4},
        4 * D_MODEL,
    ),
    "opt": Variant(
        "OPTConfig",
        "words_bos",
        _named(ffn_dim=D_KEY, word_embed_proj_dim=D_MODEL),
    ),
}

UNLIKE = (
    *("gpt2", "gptj", "gpt_neo", "gpt_neox_parallel", "llama", "qwen2", "gemma2", "gemma3_text"),
    *("granite", "cohere2", "falcon_sequential", "bloom", "opt"),
)
"""Families unlike each other: biases or none, gates, parallel blocks, norms behind the MLP,
windows, caps, multipliers, ALiBi, positions learned with an offset, a tokenizer of bytes."""


def by_default(names: Iterable[str], some: Collection[str]) -> list[Any]:
    """Return a test's models: some of them by default, the others in ``make soak``."""
    return [name if name in some else pytest.param(name, marks=pytest.mark.slow) for name in names]


unlike_families = pytest.mark.parametrize("variant", by_default(VARIANTS, UNLIKE))
"""A test of ``variant``: by default of ``UNLIKE``, in ``make soak`` of all. What is tested of every
family by default: its row, its edits and its answers against the reference."""


def write_model(name: str, folder: Path, seed: int = 0) -> Path:
    """Write one variant as float64 safetensors with its tokenizer; return the folder."""
    variant = VARIANTS[name]
    tokenizer = byte_tokenizer() if variant.tokenizer == "bytes" else None
    tokenizer = tokenizer or word_tokenizer(start=variant.start)
    fields = variant.fields | {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None,
    }
    if variant.vision is not None:
        fields = {
            "text_config": fields,
            "vision_config": variant.vision,
            "mm_tokens_per_image": 4,
        }
    config = getattr(transformers, variant.config)(**fields)
    model = AutoModelForCausalLM.from_config(config).to(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            # Norm weights stay around their start (0 or 1), matrices and biases around 0.
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            centre = parameter.mean().round() if parameter.ndim == 1 else 0.0
            parameter.copy_(centre + _SPREAD * noise)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
