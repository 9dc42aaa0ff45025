"""The terminal: console, lines, JSON, and progress.

Texts of models and files are untrusted: nothing in them is taken for markup, and control
characters are written out.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from editcollapse.runtime.environment import OVERALL, Report, listening
from editcollapse.visible import visible_lines

_NO_WIDTH = 1000
"""Columns of output that goes to a file, unless COLUMNS says how many: a row is a line."""


class Screen(Console):
    """A console that writes control characters out instead of sending them to the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as Rich does, without anything that a terminal obeys."""
        return super().render_str(visible_lines(text), **options)


def console(*, to_stderr: bool = False) -> Screen:
    """Console of standard output, or of standard error."""
    found = Screen(stderr=to_stderr, highlight=False)
    if not found.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        found.width = _NO_WIDTH
    return found


def plain(text: str) -> Text:
    """Text for a table's cell or title: no markup, control characters written out."""
    return Text(visible_lines(text))


def print_line(line: str) -> None:
    """Print a line as it is: no markup, no wrapping."""
    console().print(line, markup=False, soft_wrap=True)


def print_text(text: str, label: str = "") -> None:
    """Print prose, broken between words where the terminal is narrower.

    Args:
        text: without markup; blanks that it starts with also start the lines that follow.
        label: stands before the first line; the others start below the text.
    """
    screen = console()
    if screen.width == _NO_WIDTH or cell_len(label + text) <= screen.width:
        print_line(label + text)
        return
    if cell_len(label) > screen.width // 2:
        print_line(label)
        label = ""
    body = text.lstrip(" ")
    table = Table.grid(padding=0)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(plain(label + " " * (len(text) - len(body))), plain(body))
    screen.print(table)


def print_json(report: object) -> None:
    """Print a report as JSON: nothing else may go to standard output.

    Numbers that JSON cannot write are the texts ``Infinity``, ``-Infinity`` and ``NaN``; bytes are
    base64, times ISO 8601, and what SQL calls NULL is null.

    Args:
        report: a dataclass, or a list of rows, each a dictionary.
    """
    from pydantic_core import to_json

    text = to_json(report, indent=2, inf_nan_mode="strings", bytes_mode="base64").decode()
    write_out(f"{text}\n")


def write_out(text: str) -> None:
    """Write a text to standard output: as it is, or to a terminal without what that obeys."""
    sys.stdout.write(visible_lines(text) if sys.stdout.isatty() else text)


EVERY_S = 10.0
"""Seconds between two lines about one piece of work, at least."""


class ProgressLines:
    """Progress as lines, for a log: one when the work changes, more where it takes long.

    Args:
        write: takes a line.
        clock: seconds from any time on.
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._overall: Report | None = None
        self._what = ""
        self._written = -math.inf

    def listen(self, report: Report) -> None:
        """Take a report of the work; called often."""
        is_late = self._clock() - self._written >= EVERY_S
        if report.what == OVERALL:
            self._overall = report
            if is_late or report.done == report.total:
                self._say(_whole(report))
        elif is_late or report.what != self._what:
            self._what = report.what
            before = "" if self._overall is None else f"{_whole(self._overall)}; "
            self._say(f"{before}{report}")

    def _say(self, line: str) -> None:
        self._written = self._clock()
        self._write(line)


def _whole(report: Report) -> str:
    """Return how far the whole is."""
    return f"{report.what}: {report.done} of {report.total} {report.counted}s"


@contextmanager
def progress_shown(first: str) -> Iterator[None]:
    """Show on standard error how far the work in the block is: bars, or lines where it is a log.

    Args:
        first: what is shown before the work reports anything.
    """
    screen = console(to_stderr=True)
    if screen.is_terminal:
        with _bars(screen, first):
            yield
        return
    lines = ProgressLines(lambda line: screen.print(line, markup=False, soft_wrap=True))
    with listening(lines.listen):
        yield


@contextmanager
def _bars(screen: Screen, first: str) -> Iterator[None]:
    """Show a bar of the whole, where it reports itself, and one of the work that is going on."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, transient=True, refresh_per_second=4) as bars:
        part = bars.add_task(first, total=None)
        whole = bars.add_task(OVERALL, total=None, visible=False)

        def show(report: Report) -> None:
            if report.what == OVERALL:
                bars.live.transient = False  # the whole stays where it ended
                bars.update(whole, completed=report.done, total=report.total, visible=True)
                return
            counted = f", {report.counted}" if report.total else ""
            bars.update(
                part,
                description=visible_lines(f"{report.what}{counted}"),
                completed=report.done,
                total=report.total or None,
            )

        with listening(show):
            yield
        bars.remove_task(part)
