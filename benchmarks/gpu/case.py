"""A large shape on a device, without files: weights, data and both sides' views of the model."""

import copy
import dataclasses
from pathlib import Path

import torch

from benchmarks.inputs import random_inputs
from benchmarks.models import SHAPES, random_model, word_tokenizer, words_of
from benchmarks.published import Published
from editcollapse.activations import fuse_activations_
from editcollapse.architectures import architecture_of, widths_of
from editcollapse.model_files import ModelDigests
from editcollapse.models import LoadedModel
from editcollapse.perplexity import EncodedTexts, encode_texts
from editcollapse.presets import ValueSettings, preset_for
from editcollapse.rewrites import Rewrite, build_rewrites
from editcollapse.sites import EditSite
from editcollapse.tokens import Encoder

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_TOKENS_PER_KEY = 4
"""Tokens of the covariance in units of K, where no number is asked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class GpuOrder:
    """What one run is asked for."""

    shape: str
    dtype: str
    device: str
    edits: int
    reference_edits: int
    repeats: int
    texts: int
    tokens: int | None
    steps: int | None
    json: Path | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GpuCase:
    """A model with random weights, held once for both sides, and what is done to it."""

    order: GpuOrder
    loaded: LoadedModel
    published: Published
    layer: int
    values: ValueSettings
    site: EditSite
    rewrites: list[Rewrite]
    texts: EncodedTexts
    documents: tuple[str, ...]
    n_tokens: int
    """Of the covariance."""


def build_case(order: GpuOrder) -> GpuCase:
    """Return a shape's model on the device asked for, with its data."""
    shape = SHAPES[order.shape]
    model = random_model(shape, dtype=TYPES[order.dtype], device=order.device)
    # The same weights under transformers' own activations.
    tensors = [*model.parameters(), *model.buffers()]
    plain = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    fuse_activations_(model)
    config = model.config.to_dict()
    tokenizer = word_tokenizer(shape.n_vocabulary)
    row = architecture_of(config["model_type"], order.shape)
    loaded = LoadedModel(
        model=model,
        encoder=Encoder(tokenizer, "never", shape.n_positions, order.shape),
        architecture=row,
        widths=widths_of(config, order.shape),
        digests=ModelDigests("random", "words", order.dtype, "never"),
        source=order.shape,
    )
    preset = preset_for(None, row.family, loaded.widths)
    steps = order.steps or preset.values.steps
    path = f"{row.decoder}.{row.blocks}.{preset.layer}.{row.down_projection}"
    n_tokens = order.tokens or _TOKENS_PER_KEY * loaded.widths.d_key
    inputs = random_inputs(
        words_of(tokenizer),
        n_requests=order.edits,
        n_texts=order.texts,
        n_more_texts=order.texts,
        n_corpus_tokens=n_tokens,
        longest=shape.n_positions,
    )
    rewrites, unusable = build_rewrites(loaded.encoder, inputs.templates, inputs.requests)
    assert not unusable, unusable
    return GpuCase(
        order=order,
        loaded=loaded,
        published=Published(plain, plain.get_submodule(path), row.transposed, shape.n_positions),
        layer=preset.layer,
        values=dataclasses.replace(preset.values, steps=steps),
        site=EditSite(loaded, preset.layer),
        rewrites=rewrites,
        texts=encode_texts(loaded.encoder, inputs.texts),
        documents=inputs.documents,
        n_tokens=n_tokens,
    )
