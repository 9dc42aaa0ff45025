"""Profiles by position of every block: residual norm, key and attention, where a sink shows.

Two passes over the texts: the first finds the mean key that each position is compared with, the
second reads the rest. Of a text one number for each block and position is kept. Attention weights
exist only in plain (``eager``) attention: the configuration is switched for the forward and put
back, whatever happens; one thread uses a model at a time.

Sources: attention sinks and massive activations at the first position: Xiao et al., Efficient
Streaming Language Models with Attention Sinks (arXiv 2309.17453); Sun et al., Massive Activations
in Large Language Models (arXiv 2402.17762).
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from editcollapse.anatomy.keys import Numbers
from editcollapse.compat import attention_implementation
from editcollapse.models.loading import LoadedModel, widened
from editcollapse.models.tokenization import pad_right
from editcollapse.rows.other import PositionProfileRow

_ATTENTION = "Attention"
"""How transformers' classes of attention end, in every family."""

Watch = Callable[[int, Tensor], None]
"""Called with a block's index and a tensor (N, T, ...)."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """A decoder or an encoder, block by block."""

    name: str
    """``decoder`` or ``encoder``."""
    module: nn.Module
    """Takes ``input_ids``."""
    config: Any
    """The configuration that its attention reads."""
    blocks: tuple[nn.Module, ...]
    projections: tuple[nn.Module, ...]
    """Down projection of each block's MLP: its input is the key."""
    has_weights: bool = True
    """Whether attention weights can be read."""

    @property
    def attentions(self) -> tuple[nn.Module | None, ...]:
        """The module of each block that works out attention; None where it is not known."""
        return tuple(_attention_of(block) for block in self.blocks)

    @property
    def is_causal(self) -> bool:
        """Whether a token sees those to its left alone."""
        return self.name == "decoder"


def decoder_stack(loaded: LoadedModel) -> Stack:
    """Return a loaded model's decoder; the model stays as it is."""
    return Stack(
        name="decoder",
        module=loaded.decoder,
        config=loaded.model.config,
        blocks=tuple(loaded.blocks),
        projections=tuple(loaded.down_projection(n) for n in range(len(loaded.blocks))),
        has_weights=loaded.has_plain_attention,
    )


@torch.no_grad()
def watch_stack(
    stack: Stack,
    rows: Sequence[Sequence[int]],
    on_key: Watch,
    on_residual: Watch | None = None,
    on_attention: Watch | None = None,
) -> None:
    """Run rows of ids through a stack and show what each block leaves.

    Args:
        stack: where.
        rows: N rows of ids; shorter ones are padded on the right, and what is shown there means
            nothing.
        on_key: sees each block's keys (N, T, K).
        on_residual: sees the residual stream after each block (N, T, D).
        on_attention: sees each block's attention weights (N, H, T, T), by query and key; is not
            called where the family gives none.
    """
    device = next(stack.module.parameters()).device
    inputs: dict[str, Any] = {"input_ids": pad_right(rows, device)}
    if stack.is_causal:  # padding stands to the right, where no token looks
        inputs["use_cache"] = False
    else:
        lengths = torch.tensor([len(row) for row in rows], device=device)
        width = inputs["input_ids"].shape[1]
        inputs["attention_mask"] = (torch.arange(width, device=device) < lengths[:, None]).long()
    with ExitStack() as held:
        watched = _watched(stack, len(rows), on_key, on_residual, on_attention)
        held.enter_context(watched)
        if on_attention is not None and stack.has_weights:
            held.enter_context(attention_implementation(stack.config, "eager"))
        stack.module(**inputs)


@contextmanager
def _watched(
    stack: Stack,
    n_rows: int,
    on_key: Watch,
    on_residual: Watch | None,
    on_attention: Watch | None,
) -> Iterator[None]:
    """Show what passes while the block runs; always removes its hooks.

    transformers' own way to ask for weights (``output_attentions``) leaves hooks in the model.
    """
    handles = []
    try:
        for layer, projection in enumerate(stack.projections):
            handles.append(projection.register_forward_pre_hook(_key_hook(layer, n_rows, on_key)))
        for layer, block in enumerate(stack.blocks):
            if on_residual is not None:
                handles.append(block.register_forward_hook(_residual_hook(layer, on_residual)))
        for layer, attention in enumerate(stack.attentions):
            if on_attention is not None and attention is not None:
                hook = _attention_hook(layer, on_attention)
                handles.append(attention.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _key_hook(layer: int, n_rows: int, watch: Watch) -> Callable[..., None]:
    """Return a hook that shows a projection's input, in rows also where it is one flat list."""

    def show(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        watch(layer, widened(inputs[0]).view(n_rows, -1, inputs[0].shape[-1]))

    return show


def _residual_hook(layer: int, watch: Watch) -> Callable[..., None]:
    """Return a hook that shows a block's output."""

    def show(_module: nn.Module, _inputs: Any, output: Any) -> None:
        watch(layer, widened(output[0] if isinstance(output, tuple) else output))

    return show


def _attention_hook(layer: int, watch: Watch) -> Callable[..., None]:
    """Return a hook that shows the weights that an attention hands back last, if any."""

    def show(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, tuple) and len(output) > 1 and output[-1] is not None:
            watch(layer, widened(output[-1]))

    return show


def _attention_of(block: nn.Module) -> nn.Module | None:
    """Return the innermost module of a block that is an attention by its class's name."""
    found = [each for each in block.modules() if type(each).__name__.endswith(_ATTENTION)]
    return found[-1] if found else None


N_POSITIONS = 32
"""Positions that are profiled, from 0."""
_TEXTS_AT_ONCE = 8


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PositionNumbers:
    """One number for each of N texts, L blocks and P positions; float64 (N, L, P).

    nan where a text does not reach the position.
    """

    residual_norm: Numbers
    key_norm: Numbers
    key_cosine: Numbers
    attention: Numbers
    """nan too where no later token looks, or where the family gives no weights."""
    uniform_attention: Numbers
    """What attention were if every token looked at all tokens alike, (N, P)."""


def read_positions(stack: Stack, rows: Sequence[Sequence[int]]) -> PositionNumbers:
    """Return the numbers of some texts.

    Args:
        stack: decoder or encoder.
        rows: ids of N texts, each of at least two tokens.
    """
    others = _mean_keys_elsewhere(stack, rows)
    parts = [
        _read_some(stack, rows[first : first + _TEXTS_AT_ONCE], others)
        for first in range(0, len(rows), _TEXTS_AT_ONCE)
    ]

    def joined(name: str) -> Numbers:
        found: Numbers = np.concatenate([getattr(part, name) for part in parts])
        return found

    return PositionNumbers(
        residual_norm=joined("residual_norm"),
        key_norm=joined("key_norm"),
        key_cosine=joined("key_cosine"),
        attention=joined("attention"),
        uniform_attention=joined("uniform_attention"),
    )


def _read_some(
    stack: Stack, rows: Sequence[Sequence[int]], others: Sequence[Tensor]
) -> PositionNumbers:
    """Return the numbers of some texts, of ``N_POSITIONS`` whatever their lengths.

    Args:
        stack: decoder or encoder.
        rows: ids of the texts.
        others: of each block the mean key (T, K) that each position is compared with.
    """
    lengths = [len(row) for row in rows]

    def empty(*shape: int) -> Numbers:
        return np.full((len(rows), *shape, N_POSITIONS), np.nan)

    n_layers = len(stack.blocks)
    residual_norm, key_norm, key_cosine, attention = (empty(n_layers) for _ in range(4))
    uniform_attention = empty()

    def keep(into: Numbers, layer: int, found: Tensor) -> None:
        numbers = found[:, :N_POSITIONS].double().cpu().numpy()
        for n, length in enumerate(lengths):
            reached = min(length, N_POSITIONS)
            into[n, layer, :reached] = numbers[n, :reached]

    def on_key(layer: int, key: Tensor) -> None:
        keep(key_norm, layer, key.norm(dim=2))
        mean = others[layer][: key.shape[1]].to(key.device, key.dtype)
        keep(key_cosine, layer, torch.cosine_similarity(key, mean[None], dim=2))

    def on_residual(layer: int, residual: Tensor) -> None:
        keep(residual_norm, layer, residual.norm(dim=2))

    def on_attention(layer: int, weights: Tensor) -> None:
        keep(attention, layer, _looked_at(weights.mean(dim=1), lengths))

    watch_stack(stack, rows, on_key, on_residual, on_attention)
    for n, length in enumerate(lengths):
        uniform = _uniform(length, is_causal=stack.is_causal)[:N_POSITIONS]
        uniform_attention[n, : len(uniform)] = uniform
    return PositionNumbers(residual_norm, key_norm, key_cosine, attention, uniform_attention)


def _mean_keys_elsewhere(stack: Stack, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return of each block (T, K): for each position the mean key of all other positions."""
    width = max(map(len, rows))
    sums: list[Tensor] = []
    for first in range(0, len(rows), _TEXTS_AT_ONCE):
        _add_keys(stack, rows[first : first + _TEXTS_AT_ONCE], sums, width)
    counts = torch.tensor([sum(len(row) > t for row in rows) for t in range(width)])
    elsewhere = (int(counts.sum()) - counts)[:, None]
    return [(total.sum(dim=0) - total) / elsewhere for total in sums]


def _add_keys(stack: Stack, rows: Sequence[Sequence[int]], sums: list[Tensor], width: int) -> None:
    """Add the keys of some texts to the sums (T, K) of each block; the first call makes these."""
    lengths = torch.tensor([len(row) for row in rows])

    def add(layer: int, key: Tensor) -> None:
        if layer == len(sums):
            sums.append(torch.zeros(width, key.shape[2], dtype=torch.float64))
        there = torch.arange(key.shape[1]) < lengths[:, None]
        wide = key.double().cpu()
        sums[layer][: key.shape[1]] += wide.where(there[:, :, None], 0.0).sum(dim=0)

    watch_stack(stack, rows, add)


def _looked_at(weights: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the mean weight that a text's later tokens give to each position, (N, T).

    Args:
        weights: (N, T, T), by query and key.
        lengths: of the N texts; what is behind them is padding.
    """
    width = weights.shape[1]
    position = torch.arange(width, device=weights.device)
    sizes = torch.tensor(lengths, device=weights.device)
    later = (position[:, None] > position[None]) & (position[None, :, None] < sizes[:, None, None])
    return (weights * later).sum(dim=1) / later.sum(dim=1)  # nan where there is no later token


def _uniform(length: int, *, is_causal: bool) -> list[float]:
    """Return ``_looked_at`` of uniform attention; it ends before nan.

    Args:
        length: of the text.
        is_causal: a token sees itself and those to its left alone.
    """
    if not is_causal:
        return [1 / length] * (length - 1)
    shares = [1 / (query + 1) for query in range(length)]
    return [sum(shares[position + 1 :]) / (length - position - 1) for position in range(length - 1)]


_MIN_TEXTS = 2
"""Texts that reach a position, at least: one has no spread."""
_UPPER = 0.975
"""Quantile of Student's t."""


@dataclasses.dataclass(frozen=True, slots=True)
class Mean:
    """A mean over texts with its 95 % interval of Student's t."""

    value: float
    low: float
    high: float


def profile_rows(
    numbers: PositionNumbers, model_id: str, source: str, text_set_digest: str, stack: str
) -> Iterator[PositionProfileRow]:
    """Yield the means of every block at every position that at least two texts reach.

    Args:
        numbers: of the texts.
        model_id: id of the model, or of the encoder.
        source: where the model came from.
        text_set_digest: of the texts and of how much of each was run.
        stack: ``decoder`` or ``encoder``.
    """
    _, n_layers, n_positions = numbers.key_norm.shape
    for layer in range(n_layers):
        for position in range(n_positions):
            here = (slice(None), layer, position)
            residual, key = mean_of(numbers.residual_norm[here]), mean_of(numbers.key_norm[here])
            cosine = mean_of(numbers.key_cosine[here])
            if residual is None or key is None or cosine is None:
                continue
            attention = mean_of(numbers.attention[here])
            looked = ~np.isnan(numbers.attention[here])
            yield PositionProfileRow(
                model_id=model_id,
                text_set_digest=text_set_digest,
                stack=stack,
                layer=layer,
                position=position,
                model_source=source,
                n_texts=int((~np.isnan(numbers.key_norm[here])).sum()),
                residual_norm=residual.value,
                residual_norm_low=residual.low,
                residual_norm_high=residual.high,
                key_norm=key.value,
                key_norm_low=key.low,
                key_norm_high=key.high,
                key_cosine=cosine.value,
                key_cosine_low=cosine.low,
                key_cosine_high=cosine.high,
                attention=None if attention is None else attention.value,
                attention_low=None if attention is None else attention.low,
                attention_high=None if attention is None else attention.high,
                uniform_attention=None
                if attention is None
                else float(numbers.uniform_attention[looked, position].mean()),
            )


def mean_of(numbers: Numbers) -> Mean | None:
    """Return the mean of those that are not nan; None where there are fewer than two."""
    there = numbers[~np.isnan(numbers)]
    if len(there) < _MIN_TEXTS:
        return None
    mean = float(there.mean())
    spread = float(there.std(ddof=1)) / len(there) ** 0.5
    reach = float(stats.t.ppf(_UPPER, len(there) - 1)) * spread
    return Mean(mean, mean - reach, mean + reach)
