"""Put an update into the weights of a loaded model, and the unedited weights back, bit by bit."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from editcollapse.catalog.architectures import Architecture, architecture_of
from editcollapse.editors.running_sum import writing
from editcollapse.errors import ModelError
from editcollapse.stored.updates import LayerUpdate, StoredUpdate


def stored_weight(model: nn.Module, row: Architecture, layer: int) -> Tensor:
    """Return W of a block's down projection as (D, K), a view of the model's own parameter.

    Args:
        model: a causal LM as transformers loads it.
        row: of its family.
        layer: zero-based block.

    Raises:
        ModelError: it has no such block.
    """
    path = row.down_projection_in_model(layer)
    try:
        weight = model.get_submodule(path).weight
    except AttributeError as error:
        raise ModelError(
            f"{type(model).__name__} has no {path}, which the update changes. Give the model that "
            "was edited, as transformers loads it."
        ) from error
    assert isinstance(weight, Tensor)
    return weight.T if row.transposed else weight


def with_change(weight: Tensor, change: LayerUpdate) -> Tensor:
    """Return W + dW, worked out in float64 and rounded once to W's type and device, (D, K).

    Raises:
        ModelError: dW is of other sizes.
    """
    matrix = change.matrix
    if matrix.shape != weight.shape:
        raise ModelError(
            f"the update of layer {change.layer} is {tuple(matrix.shape)} and the model's W there "
            f"{tuple(weight.shape)}. Give the model that was edited."
        )
    return (weight.detach().to("cpu", torch.float64) + matrix).to(weight.device, weight.dtype)


@contextmanager
def in_weights(
    model: nn.Module, update: StoredUpdate | Sequence[LayerUpdate]
) -> Iterator[nn.Module]:
    """Let a model's weights hold an update while the block runs; put them back bit by bit.

    Tied heads, other layers and everything else of the model stay as they are.

    Args:
        model: a causal LM as transformers loads it (``LoadedModel.model`` too), unedited.
        update: of that model.

    Yields:
        The model.

    Raises:
        ModelError: the update is of another model's sizes; nothing is written then.
        UnknownFamilyError: the architecture table has no row for it.
    """
    changes = update.layers if isinstance(update, StoredUpdate) else update
    config: Any = model.config
    row = architecture_of(config.to_dict(), type(model).__name__)
    weights = {each.layer: stored_weight(model, row, each.layer) for each in changes}
    edited = {each.layer: with_change(weights[each.layer], each) for each in changes}
    with writing(weights) as written:
        for layer, new in edited.items():
            written.write(layer, new)
        yield model
