"""Module views: a decoder with some blocks replaced; hooks on its down projection.

A decoder runs its own code on a view in which some blocks are replaced: masks, positions and norms
stay the family's, and the resident model is never changed.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from editcollapse.compat import view_of


class Replay(nn.Module):
    """A block that returns what it was given: the stored residual, or its own input."""

    def __init__(self, residual: Tensor | None, *, as_tuple: bool) -> None:
        super().__init__()
        self.residual = residual
        self.as_tuple = as_tuple

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        """Return the stored residual, or the input, as the family's blocks return theirs."""
        out = hidden_states if self.residual is None else self.residual
        return (out, None) if self.as_tuple else out


class Given(nn.Module):
    """A module whose output is known."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_: Any, **__: Any) -> Tensor:
        """Return the output, whatever comes in."""
        return self.output


class GivenOnce(nn.Module):
    """A module whose output is known and read once: it is let go as it is read."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output: Tensor | None = output

    def forward(self, _: Tensor) -> Tensor:
        """Return the output, whatever comes in."""
        output, self.output = self.output, None
        assert output is not None
        return output


class Passing(nn.Module):
    """A module that hands on what comes in."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the input."""
        return hidden


class Recorder(nn.Module):
    """A block that runs as ever and keeps its output."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.residual: Tensor | None = None
        self.as_tuple = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block and record its output."""
        output = self.block(*args, **kwargs)
        self.as_tuple = isinstance(output, tuple)
        self.residual = output[0] if self.as_tuple else output
        return output


@dataclasses.dataclass(slots=True)
class SeenProjection:
    """Input and output of a down projection during the last forward."""

    key: Tensor = dataclasses.field(default_factory=lambda: torch.empty(0))
    value: Tensor = dataclasses.field(default_factory=lambda: torch.empty(0))


class StopForward(Exception):  # noqa: N818  a signal, not an error
    """Stops a forward once the tensor that was asked for has been read."""


@contextmanager
def stopped_at(projection: nn.Module, rows: torch.Size) -> Iterator[SeenProjection]:
    """Record the input of a projection and stop the forward there; the hook is removed.

    Args:
        projection: of one block.
        rows: N, T of the forward; some families give a projection one flat list of tokens (OPT).
    """
    seen = SeenProjection()

    def stop(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.key = inputs[0].view(*rows, -1)
        raise StopForward

    handle = projection.register_forward_pre_hook(stop)
    try:
        yield seen
    except StopForward:
        pass
    finally:
        handle.remove()


@contextmanager
def watch_projection(projection: nn.Module, rows: torch.Size) -> Iterator[SeenProjection]:
    """Record input and output of a projection while the block runs; the hook is removed.

    Args:
        projection: of one block.
        rows: N, T of the forward, as for ``stopped_at``.
    """
    seen = SeenProjection()

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.key = inputs[0].view(*rows, -1)
        # A copy: Falcon adds the attention's output to the value in place.
        seen.value = output.view(*rows, -1).clone()

    handle = projection.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def with_modules(module: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """Return a view of a module with others at some paths; only modules on the way are copied.

    Args:
        module: stays as it is.
        replacements: by dotted path.
    """
    view = view_of(module)
    inside: dict[str, dict[str, nn.Module]] = {}
    for path, replacement in replacements.items():
        head, _, rest = path.partition(".")
        if rest:
            inside.setdefault(head, {})[rest] = replacement
        else:
            setattr(view, head, replacement)
    for head, deeper in inside.items():
        setattr(view, head, with_modules(module.get_submodule(head), deeper))
    return view
