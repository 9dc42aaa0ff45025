"""A large shape on a device, without files: weights, data and both sides' views of the model."""

import copy
import dataclasses
from typing import Any

import torch

from benchmarks.inputs import random_inputs
from benchmarks.models import SHAPES, random_model, word_tokenizer, words_of
from benchmarks.published import Published
from editcollapse.catalog.architectures import architecture_of, widths_of
from editcollapse.catalog.presets import ValueSettings, preset_for
from editcollapse.evaluation.perplexity import EncodedTexts, encode_texts
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import Rewrite, build_rewrites, pass_groups
from editcollapse.models.files import ModelDigests
from editcollapse.models.loading import LoadedModel, fuse_activations_
from editcollapse.models.tokenization import Encoder
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.memory import Work

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """How much data a case holds; the works take as much of it as they have time for."""

    n_edits: int = 256
    n_texts: int = 50
    """Of perplexity, in the lengths of ME-PPL_50."""
    n_tokens: int = 1 << 17
    """Of the corpus, at least."""
    steps: int | None = None
    """Passes of v* at most; the published number where left out."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GpuCase:
    """A model with random weights, held once for both sides, and what is done to it."""

    shape: str
    """A name in ``SHAPES``."""
    loaded: LoadedModel
    published: Published
    layer: int
    values: ValueSettings
    hooked: HookedLayer
    rewrites: list[Rewrite]
    texts: EncodedTexts
    documents: tuple[str, ...]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.loaded.device

    @property
    def dtype(self) -> str:
        """Type of the weights."""
        return self.loaded.digests.dtype

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights; tied ones once."""
        return sum(each.numel() * each.element_size() for each in self.loaded.model.parameters())

    def budget(self, work: Work) -> int:
        """Return the tokens of one forward, as the units of a study choose them."""
        return tokens_per_forward(self.device, self.loaded.size(self.layer), work)

    def groups(self, n_edits: int | None = None) -> list[list[int]]:
        """Return indices of the first edits, or of all, in groups that run together in v*."""
        return pass_groups(self.rewrites[:n_edits], self.budget("values"))

    def in_type(self, dtype: str) -> "GpuCase":
        """Return the case with its weights rounded to a type, in place: this one is used up."""
        for parameter in self.loaded.model.parameters():
            parameter.data = parameter.data.to(TYPES[dtype])
        digests = dataclasses.replace(self.loaded.digests, dtype=dtype)
        loaded = dataclasses.replace(self.loaded, digests=digests)
        return dataclasses.replace(self, loaded=loaded, hooked=HookedLayer(loaded, self.layer))


def build_case(shape: str, dtype: str, device: torch.device, sizes: Sizes) -> GpuCase:
    """Return a shape's model, built on a device, with its data.

    Args:
        shape: a name in ``SHAPES``.
        dtype: a name in ``TYPES``.
        device: where the model is built.
        sizes: of the data.
    """
    return case_of(shape, random_model(SHAPES[shape], dtype=TYPES[dtype], device=device), sizes)


def case_of(shape: str, model: Any, sizes: Sizes) -> GpuCase:
    """Return a model of a shape, on its device, with its data.

    Args:
        shape: a name in ``SHAPES``.
        model: a causal LM of this shape; its spelled-out activations are replaced.
        sizes: of the data.
    """
    size = SHAPES[shape]
    # The same weights under transformers' own activations.
    tensors = [*model.parameters(), *model.buffers()]
    plain = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    fuse_activations_(model)
    config = model.config.to_dict()
    tokenizer = word_tokenizer(size.n_vocabulary)
    row = architecture_of(config, shape)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    loaded = LoadedModel(
        model=model,
        encoder=Encoder(tokenizer, "never", size.n_positions, shape),
        architecture=row,
        widths=widths_of(config, shape),
        digests=ModelDigests("random", "words", dtype, "never"),
        source=shape,
    )
    preset = preset_for(None, row.family, loaded.widths)
    steps = sizes.steps or preset.values.steps
    path = row.down_projection_in_model(preset.layer)
    inputs = random_inputs(
        words_of(tokenizer),
        n_requests=sizes.n_edits,
        n_texts=sizes.n_texts,
        n_more_texts=sizes.n_texts,
        n_corpus_tokens=sizes.n_tokens,
        longest=size.n_positions,
    )
    rewrites, unusable = build_rewrites(loaded.encoder, inputs.templates, inputs.requests)
    assert not unusable, unusable
    return GpuCase(
        shape=shape,
        loaded=loaded,
        published=Published(plain, plain.get_submodule(path), row.transposed, size.n_positions),
        layer=preset.layer,
        values=dataclasses.replace(preset.values, steps=steps),
        hooked=HookedLayer(loaded, preset.layer),
        rewrites=rewrites,
        texts=encode_texts(loaded.encoder, inputs.texts),
        documents=inputs.documents,
    )
