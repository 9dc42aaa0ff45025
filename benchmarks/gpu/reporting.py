"""Reports of a part while it runs; it goes on where one piece of it fails."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from benchmarks.gpu.figures import Figure, FigureFile
from editcollapse.runtime.devices import release

Found = TypeVar("Found")
_LONGEST = 200
"""Characters of an error's line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reporter:
    """Writes figures of one model in one type."""

    file: FigureFile
    model: str = ""
    dtype: str = ""

    @property
    def _column(self) -> tuple[str, str]:
        return self.model, self.dtype

    def say(self, what: str, unit: str, value: float, note: str = "") -> None:
        """Write one figure."""
        self.file.add(Figure(what, unit, self.model, self.dtype, value, note))

    def leave_out(self, wanted: Sequence[tuple[str, str]], why: str) -> None:
        """Write that figures are missing, and why.

        Args:
            wanted: what and unit of each.
            why: the reason.
        """
        for what, unit in wanted:
            self.file.add(Figure(what, unit, self.model, self.dtype, None, why))

    def attempt(
        self,
        wanted: Sequence[tuple[str, str]],
        work: Callable[[], Found],
        device: torch.device,
    ) -> Found | None:
        """Return the result of a piece of work; None where it fails, with the reason written.

        Figures that it wrote before it failed stay.

        Args:
            wanted: what and unit of the figures that are missing then.
            work: writes them.
            device: whose memory is given back after a failure.
        """
        try:
            return work()
        except Exception as error:  # noqa: BLE001  whatever fails, the other figures are wanted
            why = first_line(error)
        own = [each for each in self.file.read() if (each.model, each.dtype) == self._column]
        written = {(each.what, each.unit) for each in own}
        self.leave_out([each for each in wanted if each not in written], why)
        release(device)
        return None


class NotHereError(Exception):
    """A piece of work cannot run on this device or this model; nothing is wrong."""


def first_line(error: BaseException) -> str:
    """Return the type and the first line of an error."""
    words = str(error).strip().splitlines()[:1]
    names = [] if isinstance(error, NotHereError) else [type(error).__name__]
    return ": ".join([*names, *words])[:_LONGEST]
