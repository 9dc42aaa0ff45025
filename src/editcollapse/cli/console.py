"""The terminal: console, lines, JSON, and a progress bar.

Texts of models and files are untrusted: nothing in them is taken for markup, and control
characters are written out.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

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


@contextmanager
def progress_bar() -> Iterator[None]:
    """Show on a terminal's standard error how far the computation in the block is."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from editcollapse.runtime.environment import listening

    screen = console(to_stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        bar = bars.add_task("loading", total=None)

        def show(what: str, done: int, total: int) -> None:
            bars.update(bar, description=what, completed=done, total=total)

        with listening(show):
            yield
