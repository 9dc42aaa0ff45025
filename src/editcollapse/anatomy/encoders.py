"""Encoders of encoder-decoder models, read for contrast: safetensors and plain code only.

One family is known, T5; the key is the input of ``wo`` in each block's feed-forward layer.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from editcollapse.anatomy.positions import Stack
from editcollapse.errors import ModelError, UnknownFamilyError
from editcollapse.models.files import PlainFolder, fingerprint_folder, plain_folder
from editcollapse.models.loading import whole_model
from editcollapse.runtime.devices import best_device

FAMILIES = ("t5",)
"""``model_type`` of the configurations whose encoder can be read."""


def absolute_source(source: str) -> str:
    """Return a folder's absolute path; a hub id as it is."""
    folder = Path(source).expanduser()
    return str(folder.resolve()) if folder.is_dir() else source


def encoder_id(source: str) -> str:
    """Return the digest of an encoder's weights, configuration and tokenizer; loads none of them.

    Args:
        source: a folder, or a hub id.

    Raises:
        ModelError: no such model, no safetensors, or no tokenizer.
        UnknownFamilyError: its family's encoder cannot be read.
    """
    return fingerprint_folder(encoder_files(source))


def encoder_files(source: str) -> PlainFolder:
    """Return an encoder's files.

    Raises:
        ModelError: no such model, or no safetensors.
        UnknownFamilyError: its family's encoder cannot be read.
    """
    files = plain_folder(source)
    family = files.config.get("model_type")
    if family not in FAMILIES:
        raise UnknownFamilyError(
            f"{source} is of family {family!r}; encoders that can be read: {', '.join(FAMILIES)}. "
            "A decoder is profiled as a model of the study."
        )
    return files


_WO = "layer.1.DenseReluDense.wo"
"""Second projection of a block's feed-forward layer: its input is the key."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LoadedEncoder:
    """An encoder in evaluation mode with its tokenizer."""

    stack: Stack
    tokenizer: Any
    source: str
    """The hub id, or the folder's own name."""

    def encode(self, text: str, n_tokens: int) -> tuple[int, ...]:
        """Return the first ids of a text, as the family's own input has them: its end token too."""
        return tuple(self.tokenizer(text, verbose=False)["input_ids"][:n_tokens])


def load_encoder(source: str, wanted_id: str, device: str) -> LoadedEncoder:
    """Return an encoder in float32.

    Args:
        source: a folder, or a hub id.
        wanted_id: what ``encoder_id`` returned when it was asked for.
        device: a torch device; ``auto`` takes the best that is there.

    Raises:
        ModelError: it cannot be loaded, or its files have changed.
        UnknownFamilyError: its family's encoder cannot be read.
    """
    from transformers import T5EncoderModel

    files = encoder_files(source)
    if fingerprint_folder(files) != wanted_id:
        raise ModelError(
            f"the files of {files.source} changed while the study ran. Start it again: finished "
            "work for the old files is kept under their own id."
        )
    model, tokenizer = whole_model(
        T5EncoderModel, files, dtype=torch.float32, attn_implementation="eager"
    )
    model.to(best_device(device))
    blocks: tuple[nn.Module, ...] = tuple(model.encoder.block)
    stack = Stack(
        name="encoder",
        module=model,
        config=model.encoder.config,
        blocks=blocks,
        projections=tuple(block.get_submodule(_WO) for block in blocks),
    )
    return LoadedEncoder(stack, tokenizer, files.source)
