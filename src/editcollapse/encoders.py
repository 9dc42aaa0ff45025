"""Load the encoder of an encoder-decoder model: safetensors and plain code only.

The key is the input of ``wo`` in each block's feed-forward layer.
"""

import dataclasses
from typing import Any

import torch
from torch import nn

from editcollapse.devices import best_device
from editcollapse.encoder_files import encoder_files
from editcollapse.errors import ModelError
from editcollapse.model_files import fingerprint_folder
from editcollapse.models import whole_model
from editcollapse.position_states import Stack

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
        T5EncoderModel,
        files.folder,
        files.source,
        dtype=torch.float32,
        attn_implementation="eager",
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
