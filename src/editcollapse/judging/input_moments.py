"""C = E[x xT] of the inputs of any linear maps of a model's blocks, and what a change does on text.

As the second moment of keys (``covariance.second_moment``), whose sums these are: float32 products,
float64 sums. Maps that read the same input (q, k and v; gate and up) share one C.

A linear map's output on text changes by sqrt(tr(D C DT) / tr(W C WT)) in the root mean square, D
the difference of its weight: no run of the edited model is needed for that.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from editcollapse.covariance.second_moment import RunningSum
from editcollapse.errors import MomentError
from editcollapse.forward.batching import length_batches
from editcollapse.forward.module_views import StopForward
from editcollapse.models.loading import LoadedModel, widened
from editcollapse.models.tokenization import pad_right
from editcollapse.runtime.devices import free_bytes
from editcollapse.runtime.precision import float32_products

_SHARE = 4
"""One over the share of the free memory that sums may take; more maps need more passes."""
_UNKNOWN = 4 << 30
"""Bytes that they may take where the free memory is not known."""
_BYTES = 8
"""Of a sum for each entry of C: float64 and float32 of a little more than half of it."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class InputMoment:
    """C of the input that some linear maps share."""

    modules: tuple[str, ...]
    """Paths of those that were asked for."""
    moment: Tensor
    """(K, K) float64 on the CPU."""
    n_tokens: int


def text_change(difference: Tensor, weight: Tensor, moment: Tensor) -> float:
    """Return sqrt(tr(D C DT) / tr(W C WT)).

    Args:
        difference: D, (out, in) float64.
        weight: W, likewise.
        moment: C, (in, in) float64.
    """
    changed, spread = (float(((each @ moment) * each).sum()) for each in (difference, weight))
    if math.isnan(changed) or changed <= 0:
        return math.nan if math.isnan(changed) else 0.0
    return math.sqrt(changed / spread) if spread > 0 else math.inf


@float32_products()
def input_moments(
    loaded: LoadedModel,
    modules: Sequence[str],
    rows: Sequence[tuple[int, ...]],
    tokens_per_batch: int,
    on_tokens: Callable[[int, int], None] | None = None,
) -> Iterator[InputMoment]:
    """Yield C of the inputs of some linear maps over all tokens, each map in one of them.

    As many are summed in one pass as fit in a quarter of the free memory.

    Args:
        loaded: the model; it stays as it is.
        modules: paths of linear maps in its blocks.
        rows: token ids of each document.
        tokens_per_batch: padded tokens in one forward at most; a longer document runs alone.
        on_tokens: called with tokens done, of all passes, and all there are.

    Raises:
        MomentError: there are no tokens, or an input is not finite.
    """
    if not rows or not modules:
        if modules:
            raise MomentError("the corpus has no tokens. Give a text file with documents in it.")
        return
    groups = _shared_inputs(loaded, modules, rows[0][:2])
    passes = _passes(loaded, groups)
    n_tokens = sum(map(len, rows))
    for index, some in enumerate(passes):

        def report(done: int, before: int = index * n_tokens) -> None:
            if on_tokens is not None:
                on_tokens(before + done, n_tokens * len(passes))

        yield from _summed(loaded, some, rows, tokens_per_batch, report)


def _shared_inputs(
    loaded: LoadedModel, modules: Sequence[str], row: tuple[int, ...]
) -> list[tuple[str, ...]]:
    """Return the maps by the tensor that they read."""
    read: dict[str, Tensor] = {}
    _run(loaded, modules, pad_right([row], loaded.device), read.__setitem__)
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in modules:
        if name not in read:
            raise MomentError(f"{name} of {loaded.source} does not run: it has no input on text.")
        tensor = read[name]
        groups.setdefault((tensor.data_ptr(), *tensor.shape, *tensor.stride()), []).append(name)
    return [tuple(group) for group in groups.values()]


def _passes(loaded: LoadedModel, groups: list[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    """Return the groups that are summed together, in the model's order."""
    free = free_bytes(loaded.device)
    room = _UNKNOWN if free is None else free // _SHARE
    passes: list[list[tuple[str, ...]]] = [[]]
    taken = 0
    for group in groups:
        size = _BYTES * _width(loaded, group[0]) ** 2
        if passes[-1] and taken + size > room:
            passes.append([])
            taken = 0
        passes[-1].append(group)
        taken += size
    return passes


def _width(loaded: LoadedModel, name: str) -> int:
    """Return the entries of a linear map's input."""
    module: Any = loaded.model.get_submodule(name)
    own = getattr(module, "own", module)
    return int(own.weight.shape[1] if isinstance(own, nn.Linear) else own.weight.shape[0])


def _summed(
    loaded: LoadedModel,
    groups: list[tuple[str, ...]],
    rows: Sequence[tuple[int, ...]],
    tokens_per_batch: int,
    on_tokens: Callable[[int], None],
) -> Iterator[InputMoment]:
    sums = {group[0]: RunningSum(_width(loaded, group[0]), loaded.device) for group in groups}
    lengths = [len(row) for row in rows]
    done = 0
    for batch in length_batches(lengths, tokens_per_batch):
        some = [rows[index] for index in batch]
        ids = pad_right(some, loaded.device)
        limits = torch.tensor([len(row) for row in some], device=loaded.device)
        real = torch.arange(ids.shape[1], device=loaded.device) < limits[:, None]

        def add(name: str, found: Tensor, real: Tensor = real) -> None:
            keys = widened(found.reshape(*real.shape, -1)[real])
            if not bool(torch.isfinite(keys.sum())):
                raise MomentError(
                    f"inputs of {name} of {loaded.source} are not finite on the texts: load the "
                    "model in float32 or check its weights."
                )
            sums[name].add_keys_(keys)

        _run(loaded, list(sums), ids, add)
        done += sum(map(len, some))
        on_tokens(done)
    for group in groups:
        total = sums.pop(group[0]).total()
        yield InputMoment(group, total.mean(), total.n_tokens)


@torch.no_grad()
def _run(
    loaded: LoadedModel, modules: Sequence[str], ids: Tensor, take: Callable[[str, Tensor], None]
) -> None:
    """Run the decoder, no further than the last block that is read; hand on the maps' inputs."""
    row = loaded.architecture
    prefix = f"{row.decoder}.{row.blocks}."
    highest = max(int(name.removeprefix(prefix).split(".")[0]) for name in modules)

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, arguments: take(name, arguments[0])

    def stop(*_: Any) -> None:
        raise StopForward

    hooks = [
        loaded.model.get_submodule(name).register_forward_pre_hook(hook(name)) for name in modules
    ]
    if highest + 1 < len(loaded.blocks):
        hooks.append(loaded.blocks[highest + 1].register_forward_pre_hook(stop))
    try:
        loaded.decoder(input_ids=ids, use_cache=False)
    except StopForward:
        pass
    finally:
        for each in hooks:
            each.remove()
