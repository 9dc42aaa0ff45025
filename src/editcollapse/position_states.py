"""What every block of a stack leaves at every position: residual, key, and who looks where.

Attention weights exist only where attention is worked out plainly (``eager``). The configuration is
switched for the forward and put back, whatever happens; one thread uses a model at a time.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from editcollapse.models import LoadedModel, widened
from editcollapse.tokens import pad_right

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
        held.enter_context(_watched(stack, on_key, on_residual, on_attention))
        if on_attention is not None:
            held.enter_context(eager_attention(stack.config))
        stack.module(**inputs)


@contextmanager
def eager_attention(config: Any) -> Iterator[None]:
    """Let a model's attention give its weights while the block runs.

    Args:
        config: of the model; as it was afterwards.
    """
    usual = config._attn_implementation  # noqa: SLF001  transformers has no public name for it
    config._attn_implementation = "eager"  # noqa: SLF001
    try:
        yield
    finally:
        config._attn_implementation = usual  # noqa: SLF001


@contextmanager
def _watched(
    stack: Stack, on_key: Watch, on_residual: Watch | None, on_attention: Watch | None
) -> Iterator[None]:
    """Show what passes while the block runs; always removes its hooks.

    transformers' own way to ask for weights (``output_attentions``) leaves hooks in the model.
    """
    handles = []
    try:
        for layer, projection in enumerate(stack.projections):
            handles.append(projection.register_forward_pre_hook(_key_hook(layer, on_key)))
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


def _key_hook(layer: int, watch: Watch) -> Callable[..., None]:
    """Return a hook that shows a projection's input."""
    return lambda _module, inputs: watch(layer, widened(inputs[0]))


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
