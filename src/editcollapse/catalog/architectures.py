"""One row for each model family: where its blocks, its MLP and its head are.

A row holds module paths as Hugging Face names them. Orientation is declared, never guessed from a
shape: a square matrix would pass wrongly. ``check_model`` verifies a row on loaded weights.
"""

import dataclasses
from typing import Any, Literal

from editcollapse.errors import UnknownFamilyError, nearest_first

Norm = Literal["layer", "rms", "rms_from_one"]
"""What a block's first norms are: centred with weight and bias; by the root mean square with a
weight, or with one plus a weight."""


@dataclasses.dataclass(frozen=True, slots=True)
class InputNorm:
    """A norm of a block's input and the linear maps that alone read it, relative to a block."""

    norm: str
    projections: tuple[str, ...]
    parallel_only: bool = False
    """The norm reads the block's input only where attention and MLP both do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Architecture:
    """Module paths of one family, relative to the causal LM and, below ``block``, to a block."""

    family: str
    """``model_type`` of the Hugging Face configuration."""
    decoder: str
    """The model without its head."""
    blocks: str
    """The list of blocks, an attribute of the decoder."""
    down_projection: str
    """The second MLP projection, relative to a block: the key goes in, the value comes out."""
    final_norm: str
    """The norm after the last block, an attribute of the decoder."""
    input_norms: tuple[InputNorm, ...]
    """All norms that read a block's input; nothing else does but the residual stream itself."""
    norm: Norm = "layer"
    """Kind of these norms."""
    transposed: bool = False
    """True where the stored weight is (K, D), as in Conv1D; False for Linear's (D, K)."""
    post_mlp_norm: str | None = None
    """A norm between the value and the residual stream, relative to a block."""
    position_embedding: str | None = None
    """Learned positions that are added to the embedding, an attribute of the decoder."""
    activation: tuple[str, str] | None = None
    """The MLP's map whose output an activation alone reads, and that activation, relative to a
    block."""
    parallel: str = "never"
    """Whether attention and MLP read the same residual: never, always, or a configuration field."""
    size_fields: tuple[str, str, str] = ("num_hidden_layers", "hidden_size", "intermediate_size")
    """Configuration fields of the number of blocks, D and K; K is 4 D where it is null."""


def _llama_like(
    family: str,
    projections: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    norm: Norm = "rms",
    activation: tuple[str, str] | None = ("mlp.gate_proj", "mlp.act_fn"),
    **other: Any,
) -> Architecture:
    """Return the row that llama and its many relatives share."""
    input_norms = (InputNorm("input_layernorm", projections),)
    return Architecture(
        family,
        "model",
        "layers",
        "mlp.down_proj",
        "norm",
        input_norms,
        norm=norm,
        activation=activation,
        **other,
    )


def _gemma_like(family: str) -> Architecture:
    """Return the row that the Gemmas with a norm behind the MLP share."""
    return _llama_like(family, norm="rms_from_one", post_mlp_norm="post_feedforward_layernorm")


ARCHITECTURES: dict[str, Architecture] = {
    row.family: row
    for row in (
        Architecture(
            "gpt2",
            "transformer",
            "h",
            "mlp.c_proj",
            "ln_f",
            (InputNorm("ln_1", ("attn.c_attn",)),),
            position_embedding="wpe",
            activation=("mlp.c_fc", "mlp.act"),
            transposed=True,
            size_fields=("n_layer", "n_embd", "n_inner"),
        ),
        Architecture(
            "gptj",
            "transformer",
            "h",
            "mlp.fc_out",
            "ln_f",
            (InputNorm("ln_1", ("attn.q_proj", "attn.k_proj", "attn.v_proj", "mlp.fc_in")),),
            activation=("mlp.fc_in", "mlp.act"),
            parallel="always",
            size_fields=("n_layer", "n_embd", "n_inner"),
        ),
        Architecture(
            "gpt_neo",
            "transformer",
            "h",
            "mlp.c_proj",
            "ln_f",
            (InputNorm("ln_1", tuple(f"attn.attention.{name}_proj" for name in "qkv")),),
            position_embedding="wpe",
            activation=("mlp.c_fc", "mlp.act"),
            size_fields=("num_layers", "hidden_size", "intermediate_size"),
        ),
        Architecture(
            "gpt_neox",
            "gpt_neox",
            "layers",
            "mlp.dense_4h_to_h",
            "final_layer_norm",
            (
                InputNorm("input_layernorm", ("attention.query_key_value",)),
                InputNorm("post_attention_layernorm", ("mlp.dense_h_to_4h",), parallel_only=True),
            ),
            activation=("mlp.dense_h_to_4h", "mlp.act"),
            parallel="use_parallel_residual",
        ),
        _llama_like("llama"),
        _llama_like("mistral"),
        _llama_like("qwen2"),
        _llama_like("qwen3"),
        _gemma_like("gemma2"),
        _gemma_like("gemma3_text"),
        Architecture(
            "phi",
            "model",
            "layers",
            "mlp.fc2",
            "final_layernorm",
            (InputNorm("input_layernorm", (*(f"self_attn.{c}_proj" for c in "qkv"), "mlp.fc1")),),
            activation=("mlp.fc1", "mlp.activation_fn"),
            parallel="always",
        ),
        _llama_like("phi3", ("self_attn.qkv_proj",), activation=None),
    )
}
"""Family name to its row. To add a family, add a row and run ``editcollapse check-model``."""


def architecture_of(model_type: str, source: str) -> Architecture:
    """Return the row of a model family.

    Args:
        model_type: the field of that name in the model's ``config.json``.
        source: folder or hub id, for the message.

    Raises:
        UnknownFamilyError: there is no row; the message lists the known families.
    """
    row = ARCHITECTURES.get(model_type)
    if row is None:
        raise UnknownFamilyError(
            f"no architecture row for model_type {model_type!r} ({source}). "
            f"Known: {nearest_first(model_type, ARCHITECTURES)}. "
            "Add a row to src/editcollapse/catalog/architectures.py and verify it with check-model."
        )
    return row


@dataclasses.dataclass(frozen=True, slots=True)
class Widths:
    """Sizes read from a configuration, before any weight is loaded."""

    n_layers: int
    d_model: int
    d_key: int
    n_vocabulary: int


def widths_of(config: dict[str, Any], source: str) -> Widths:
    """Return the sizes that a ``config.json`` declares.

    Args:
        config: the parsed ``config.json``.
        source: folder or hub id, for the message.

    Raises:
        UnknownFamilyError: the family is not in the table, or a size field is missing.
    """
    row = architecture_of(str(config.get("model_type")), source)
    layers, model, key = (config.get(field) for field in row.size_fields)
    if not isinstance(layers, int) or not isinstance(model, int):
        raise UnknownFamilyError(
            f"config.json of {source} says model_type {row.family!r} but has no "
            f"{row.size_fields[0]} or {row.size_fields[1]}. Is it the model's own config.json?"
        )
    d_key = key if isinstance(key, int) else 4 * model
    return Widths(layers, model, d_key, int(config.get("vocab_size") or 0))
