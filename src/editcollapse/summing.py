"""One pass of a shard through a model: the sums of k kᵀ of several layers."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from editcollapse.batches import length_batches, padded_tokens, padding_share
from editcollapse.devices import multiplies_half
from editcollapse.errors import MomentError
from editcollapse.halving import GroupLimit, halved
from editcollapse.models import LoadedModel, widened
from editcollapse.precision import float32_products
from editcollapse.reading import KeyReader
from editcollapse.shards import Shard
from editcollapse.sums import MomentSum, RunningSum
from editcollapse.tokens import pad_right

logger = logging.getLogger(__name__)

_TOLERATED_ERROR = 1e-4


@float32_products()
def sum_keys(
    loaded: LoadedModel,
    layers: Sequence[int],
    shard: Shard,
    tokens_per_batch: int,
    on_tokens: Callable[[int, int], None] | None = None,
) -> list[MomentSum]:
    """Return the sums of k kᵀ over the tokens of a shard, one for each layer, from one pass.

    Args:
        loaded: the model.
        layers: zero-based blocks, each once.
        shard: documents in tokens.
        tokens_per_batch: padded tokens in one forward at most; a longer document runs alone, and
            a batch that does not fit the device is split.
        on_tokens: called with tokens done and the shard's tokens.

    Raises:
        MomentError: a key is not finite, or float32 products are too far from float64 ones.
        DeviceMemoryError: a single document does not fit.
    """
    reader = KeyReader(loaded, layers)
    running = [RunningSum(loaded.widths.d_key, loaded.device) for _ in layers]
    lengths = [len(row) for row in shard.rows]
    batches = length_batches(lengths, tokens_per_batch)
    limit = GroupLimit(loaded.device, "keys of one document")
    for batch in batches:
        groups = halved(
            batch,
            lambda places: _real_keys(reader, [shard.rows[place] for place in places]),
            limit,
            lambda places: padded_tokens(lengths, places),
        )
        for _, found in groups:
            for layer, some, keys in zip(layers, running, found, strict=True):
                # One number says it: a sum is finite only where every key is.
                wide = torch.promote_types(keys.dtype, torch.float32)
                if not bool(torch.isfinite(keys.sum(dtype=wide))):
                    raise MomentError(
                        f"keys of layer {layer} of {loaded.source} are not finite on the corpus: "
                        "load the model in float32 or check its weights."
                    )
                some.add_keys_(keys)
            del found, keys  # not kept while the next batch runs
            if on_tokens is not None:
                on_tokens(running[0].n_tokens, shard.n_tokens)
    sums = [some.total() for some in running]
    for layer, total in zip(layers, sums, strict=True):
        total.n_texts = shard.n_texts
        error = total.accumulation_error
        if error is not None and error > _TOLERATED_ERROR:
            raise MomentError(
                f"float32 sums of k kT of layer {layer} of {loaded.source} are {error:.1e} from "
                'float64 ones. Use dtype = "float64" for this model.'
            )
    logger.info(
        "%s: %d tokens of %d texts in %d batches, %.1f %% padding",
        loaded.source,
        shard.n_tokens,
        shard.n_texts,
        len(batches),
        100 * padding_share(lengths, batches),
    )
    return sums


def _real_keys(reader: KeyReader, rows: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """Return the keys of the rows' real tokens, (n, K) for each layer.

    float32 or better, or in the type of the weights where the device multiplies that.
    """
    device = reader.loaded.device
    kept = (lambda key: key) if multiplies_half(device) else widened
    keys = reader.read(pad_right(rows, device))
    width = keys[0].shape[1]
    if all(len(row) == width for row in rows):
        return tuple(kept(key.flatten(0, 1)) for key in keys)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    real = torch.arange(width, device=device) < lengths[:, None]
    return tuple(kept(key[real]) for key in keys)
