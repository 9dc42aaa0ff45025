"""What ``adapter_config.json`` of a LoRA adapter says, as far as it decides the weights' change.

The change of a linear weight is scaling B A, with scaling = alpha / r, or alpha / sqrt(r) for
rank-stabilised LoRA (arXiv 2106.09685; 2312.03732). Whatever adds something else is refused: a
number that leaves it out would be of another model.
"""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

from editcollapse.errors import ModelError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PICKLED = "adapter_model.bin"
_PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal", None)
"""``init_lora_weights`` that leave the base weights as they are."""
_PATTERN = re.compile(r"\^?[\w.\\-]+", re.ASCII)
"""Of a module's name, nothing that could take a matcher long."""
_OTHERS = {
    "use_dora": "DoRA, which also rescales the weights' columns",
    "use_qalora": "QA-LoRA, which pools the inputs",
    "use_bdlora": "BD-LoRA, which has blocks in place of whole factors",
    "lora_bias": "a bias of its own",
    "layer_replication": "repeated layers",
    "alora_invocation_tokens": "activation by tokens",
    "target_parameters": "changes of parameters that are no linear module",
    "trainable_token_indices": "embeddings of tokens",
    "modules_to_save": "whole modules beside the factors",
    "arrow_config": "routing between adapters",
    "corda_config": "a start from other base weights (CorDA)",
    "loftq_config": "a start from other base weights (LoftQ)",
    "lora_ga_config": "a start from other base weights (LoRA-GA)",
    "kasa_config": "a start from other base weights (KaSA)",
    "monteclora_config": "random weights (MonteCLoRA)",
}
"""Fields that say, where they are set, that the change is not scaling B A alone."""


@dataclasses.dataclass(frozen=True, slots=True)
class LoraConfig:
    """How the factors of an adapter make changes of weights."""

    rank: int
    alpha: float
    is_rank_stabilised: bool
    ranks: tuple[tuple[str, int], ...]
    """Ranks of single modules, by pattern."""
    alphas: tuple[tuple[str, float], ...]
    """Alphas of single modules, by pattern."""

    def rank_of(self, module: str) -> int:
        """Return the rank of a module's factors."""
        return int(_own(self.ranks, module, self.rank))

    def scaling_of(self, module: str) -> float:
        """Return what B A is multiplied by at a module."""
        rank = self.rank_of(module)
        alpha = float(_own(self.alphas, module, self.alpha))
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def read_lora_config(folder: Path, source: str) -> LoraConfig:
    """Return the configuration of a LoRA adapter.

    Args:
        folder: holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        source: what to call it.

    Raises:
        ModelError: the files are missing or malformed, or the adapter is not plain LoRA.
    """
    if not (folder / WEIGHTS_FILE).is_file():
        pickled = f": found {_PICKLED}, a pickle, which is never loaded" * (
            (folder / _PICKLED).is_file()
        )
        raise ModelError(
            f"no {WEIGHTS_FILE} in {source}{pickled}. Save the adapter as safetensors: "
            "model.save_pretrained(folder) of peft does."
        )
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{CONFIG_FILE} of {source} is not JSON: {error}.") from error
    if not isinstance(config, dict):
        raise ModelError(f"{CONFIG_FILE} of {source} holds no object.")
    _check_plain_lora(config, source)
    try:
        return LoraConfig(
            rank=_count(config["r"]),
            alpha=_number(config["lora_alpha"]),
            is_rank_stabilised=bool(config.get("use_rslora", False)),
            ranks=tuple((_plain(k), _count(v)) for k, v in _items(config, "rank_pattern")),
            alphas=tuple((_plain(k), _number(v)) for k, v in _items(config, "alpha_pattern")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{CONFIG_FILE} of {source} has no usable r, lora_alpha, rank_pattern or alpha_pattern "
            f"({error}). Merge the adapter (merge_and_unload in peft), save the model and "
            "give that."
        ) from error


def _check_plain_lora(config: dict[str, Any], source: str) -> None:
    """Raise ModelError where the change of the weights is not scaling B A alone."""
    kind = config.get("peft_type")
    found = [about for field, about in _OTHERS.items() if config.get(field)]
    if kind != "LORA":
        found = [f"peft_type {kind!r}"]
    elif config.get("bias", "none") != "none":
        found.append(f"biases (bias = {config['bias']!r})")
    start = config.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        found.append(f"a start from other base weights ({start!r})")
    if found:
        raise ModelError(
            f"{source} is an adapter with {', '.join(found)}; what is read here is LoRA on linear "
            "weights and nothing beside it. Merge it (merge_and_unload in peft), save the model "
            "and give that."
        )


def _own(patterns: "tuple[tuple[str, Any], ...]", module: str, otherwise: Any) -> Any:
    """Return the value of the first pattern that a module's name ends with, as peft matches."""
    for pattern, value in patterns:
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


def _items(config: dict[str, Any], field: str) -> list[tuple[str, Any]]:
    return list((config.get(field) or {}).items())


def _plain(pattern: str) -> str:
    if _PATTERN.fullmatch(pattern) is None:
        raise ValueError(f"the pattern {pattern!r} is no module's name")
    return pattern


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is no rank")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)
