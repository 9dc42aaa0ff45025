"""One row for each model family: where its blocks, its MLP and its head are.

A row holds module paths as Hugging Face names them. Orientation is declared, never guessed from a
shape: a square matrix would pass wrongly. ``check_model`` verifies a row on loaded weights.
"""

import dataclasses
import re
from typing import Any, Literal

from editcollapse.errors import UnknownFamilyError, nearest_first

Norm = Literal["layer", "rms", "rms_from_one"]
"""What a block's first norms are: centred with weight and bias; by the root mean square with a
weight, or with one plus a weight."""


@dataclasses.dataclass(frozen=True, slots=True)
class InputNorm:
    """A norm of a block's input and the linear maps that alone read it, relative to a block."""

    norm: str | None
    """None where the maps read the block's input as it is."""
    projections: tuple[str, ...]
    parallel_projections: tuple[str, ...] = ()
    """Further ones, where attention and MLP read the same residual."""
    optional: bool = False
    """Some models of the family have other norms instead."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Models of a family that cannot be edited soundly, told by a field of their ``config.json``.

    A field that is left out is as the family's usual models have it.
    """

    field: str
    reason: str
    """What they are and why that does not work; a clause behind the model's name."""
    when: bool = True
    """The value that is refused."""
    beside: str | None = None
    """Another field, which the first must equal; then ``when`` does not count."""

    def applies(self, config: dict[str, Any]) -> bool:
        """Return whether a model is refused, by the parsed ``config.json``."""
        found = config.get(self.field)
        if found is None:
            return False
        if self.beside is not None:
            return bool(found != config.get(self.beside))
        return bool(found) is self.when


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
    value_multiplier: str | None = None
    """Configuration field of a number that the value is multiplied by on its way to the stream."""
    logit_multiplier: str | None = None
    """Configuration field of a number that the head's logits are multiplied by."""
    logit_divisor: str | None = None
    """Likewise, that they are divided by."""
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
    """Configuration fields of the number of blocks, D and K; K is 4 D where it is null. Names with
    a bar between them are of one field, as later and earlier releases of transformers write it."""
    refusals: tuple[Refusal, ...] = ()
    eager_differs: str | None = None
    """Configuration field that, where it is true, makes plain attention (eager) another computation
    than the one that the model was made with: it is never used, and attention weights are unknown.
    """

    def down_projection_in_decoder(self, layer: int) -> str:
        """Return the path of a block's down projection below the decoder."""
        return f"{self.blocks}.{layer}.{self.down_projection}"

    def down_projection_in_model(self, layer: int) -> str:
        """Return the path of a block's down projection in a causal LM of the family."""
        return f"{self.decoder}.{self.down_projection_in_decoder(layer)}"


_BIDIRECTIONAL = Refusal(
    "use_bidirectional_attention",
    "attends to both sides (use_bidirectional_attention): it is an encoder, and an edit at a "
    "subject would change what stands before it. Take a causal language model.",
)
_POST_NORM = Refusal(
    "do_layer_norm_before",
    "norms the residual stream together with the value (do_layer_norm_before = false, as "
    "opt-350m): what a value adds to the stream is no longer a sum, which every update here takes "
    "it for. Take another size of OPT.",
    when=False,
)
_NARROW_EMBEDDING = Refusal(
    "word_embed_proj_dim",
    "has embeddings of another width than its blocks (word_embed_proj_dim), which no code here "
    "runs. Take another size of OPT.",
    beside="hidden_size",
)
_NORMED_STREAM = Refusal(
    "apply_residual_connection_post_layernorm",
    "adds to the normed stream (apply_residual_connection_post_layernorm), so that a block's "
    "input is read by more than its norm. Take a BLOOM without it.",
)
_SLICED_PRODUCT = Refusal(
    "slow_but_exact",
    "multiplies its MLP matrix slice by slice (slow_but_exact), so that no module gives the "
    "value. Set slow_but_exact to false in its config.json.",
)


def _llama_like(
    family: str,
    projections: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    norm: Norm = "rms",
    activation: tuple[str, str] | None = ("mlp.gate_proj", "mlp.act_fn"),
    input_norm: str | None = "input_layernorm",
    **other: Any,
) -> Architecture:
    """Return the row that llama and its many relatives share."""
    gated = ("mlp.gate_proj", "mlp.up_proj")
    input_norms = (InputNorm(input_norm, projections, gated),)
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
    return _llama_like(
        family,
        norm="rms_from_one",
        post_mlp_norm="post_feedforward_layernorm",
        refusals=(_BIDIRECTIONAL,),
    )


def _olmo_like(family: str) -> Architecture:
    """Return the row of the Olmos that norm what attention and MLP give, not what they read."""
    return _llama_like(family, input_norm=None, post_mlp_norm="post_feedforward_layernorm")


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
                InputNorm("post_attention_layernorm", (), ("mlp.dense_h_to_4h",)),
            ),
            activation=("mlp.dense_h_to_4h", "mlp.act"),
            parallel="use_parallel_residual",
        ),
        _llama_like("llama"),
        _llama_like("mistral"),
        _llama_like("qwen2"),
        _llama_like("qwen3"),
        _llama_like("smollm3"),
        _llama_like(
            "granite", value_multiplier="residual_multiplier", logit_divisor="logits_scaling"
        ),
        _llama_like("stablelm", norm="layer", parallel="use_parallel_residual"),
        _llama_like("cohere", norm="layer", parallel="always", logit_multiplier="logit_scale"),
        _llama_like("cohere2", norm="layer", parallel="always", logit_multiplier="logit_scale"),
        _olmo_like("olmo2"),
        _olmo_like("olmo3"),
        _llama_like("gemma", norm="rms_from_one"),
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
        _llama_like("glm4", activation=None, post_mlp_norm="post_mlp_layernorm"),
        Architecture(
            "falcon",
            "transformer",
            "h",
            "mlp.dense_4h_to_h",
            "ln_f",
            (
                # One norm each, one for both, or a sequential block: Falcon 40B, 7B, RW 1B.
                InputNorm("ln_attn", ("self_attention.query_key_value",), optional=True),
                InputNorm("ln_mlp", ("mlp.dense_h_to_4h",), optional=True),
                InputNorm(
                    "input_layernorm",
                    ("self_attention.query_key_value",),
                    ("mlp.dense_h_to_4h",),
                    optional=True,
                ),
            ),
            activation=("mlp.dense_h_to_4h", "mlp.act"),
            parallel="parallel_attn",
            size_fields=("num_hidden_layers|n_layer", "hidden_size|n_embed", "ffn_hidden_size"),
            # transformers 5.23: its mask holds alibi, and eager attention adds it once more.
            eager_differs="alibi",
        ),
        Architecture(
            "bloom",
            "transformer",
            "h",
            "mlp.dense_4h_to_h",
            "ln_f",
            (InputNorm("input_layernorm", ("self_attention.query_key_value",)),),
            activation=("mlp.dense_h_to_4h", "mlp.gelu_impl"),
            # K is always 4 D.
            size_fields=("n_layer|num_hidden_layers", "n_embed|hidden_size", ""),
            refusals=(_NORMED_STREAM, _SLICED_PRODUCT),
        ),
        Architecture(
            "opt",
            "model.decoder",
            "layers",
            "fc2",
            "final_layer_norm",
            (InputNorm("self_attn_layer_norm", tuple(f"self_attn.{c}_proj" for c in "qkv")),),
            position_embedding="embed_positions",
            activation=("fc1", "activation_fn"),
            size_fields=("num_hidden_layers", "hidden_size", "ffn_dim"),
            refusals=(_POST_NORM, _NARROW_EMBEDDING),
        ),
    )
}
"""Family name to its row. To add a family, add a row and run ``editcollapse check-model``."""


@dataclasses.dataclass(frozen=True, slots=True)
class TextPart:
    """The text model inside a multimodal checkpoint; nothing else of it is loaded."""

    family: str
    """Of the text model: a family of the table."""
    config: str
    """Field of the whole configuration that holds the text model's."""
    decoders: tuple[str, ...]
    """How the names of the decoder's tensors begin, as releases of transformers wrote them; in the
    text model they begin with its own decoder's name."""

    @property
    def renamed(self) -> dict[str, str]:
        """Patterns of the checkpoint's names to the text model's."""
        own = f"{ARCHITECTURES[self.family].decoder}."
        return {f"^{re.escape(prefix)}": own for prefix in self.decoders}


TEXT_PARTS: dict[str, TextPart] = {
    "gemma3": TextPart(
        "gemma3_text", "text_config", ("language_model.model.", "model.language_model.")
    ),
}
"""By ``model_type`` of the whole. Its head is tied to the embedding."""


_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Configuration fields of the number of experts in a block."""


def architecture_of(config: dict[str, Any], source: str) -> Architecture:
    """Return the row of a model's family.

    Args:
        config: the parsed ``config.json``.
        source: folder or hub id, for the message.

    Raises:
        UnknownFamilyError: there is no row, and the message lists the known families; or the model
            is one that cannot be edited, and the message says why.
    """
    model_type = str(config.get("model_type"))
    n_experts = next((config[field] for field in _EXPERTS if config.get(field)), 0)
    if isinstance(n_experts, int) and n_experts > 1:
        raise UnknownFamilyError(
            f"{source} (model_type {model_type!r}) is a mixture of experts, {n_experts} in a "
            "block, and each token goes through some of them: there is no one MLP matrix whose "
            "keys are all tokens', so a rank-one edit and its C are not defined. Take a dense "
            f"model. Known families: {nearest_first(model_type, ARCHITECTURES)}."
        )
    row = ARCHITECTURES.get(model_type)
    if row is not None:
        for refusal in row.refusals:
            if refusal.applies(config):
                raise UnknownFamilyError(f"{source} {refusal.reason}")
        return row
    raise UnknownFamilyError(
        f"no architecture row for model_type {model_type!r} ({source}). "
        f"Known: {nearest_first(model_type, ARCHITECTURES)}. "
        "Add a row to src/editcollapse/catalog/architectures.py and verify it with check-model."
    )


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
    row = architecture_of(config, source)
    layers, model, key = (_field(config, names.split("|")) for names in row.size_fields)
    if not isinstance(layers, int) or not isinstance(model, int):
        names = " or ".join(row.size_fields[:2]).replace("|", " or ")
        raise UnknownFamilyError(
            f"config.json of {source} says model_type {row.family!r} but has no {names}. "
            "Is it the model's own config.json?"
        )
    d_key = key if isinstance(key, int) else 4 * model
    return Widths(layers, model, d_key, int(config.get("vocab_size") or 0))


def _field(config: dict[str, Any], names: list[str]) -> Any:
    """Return a field of a configuration, which has one of several names."""
    return next((config[name] for name in names if config.get(name) is not None), None)
