"""What the terminal shows: a progress bar, tables, and the words around them.

Texts of datasets, models and study files are untrusted: nothing in them is taken for markup, and
control characters are written out, for a terminal would obey them.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from pydantic_core import to_json
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from editcollapse.runtime.environment import OVERALL, listening
from editcollapse.study.results_folder import is_url
from editcollapse.visible import visible_lines
from reports.text import POSITIONS

_PERCENT = 100
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and marks that change the direction of writing."""


class _Screen(Console):
    """A console that writes control characters out instead of sending them to the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as Rich does, without anything that a terminal obeys."""
        return super().render_str(visible_lines(text), **options)


def console(*, to_stderr: bool = False) -> Console:
    """Return a console; narrow output is not cut where it goes to a file."""
    found = _Screen(stderr=to_stderr, highlight=False)
    if not found.is_terminal:
        found.width = 1000
    return found


def print_json(report: object) -> None:
    """Print a report as JSON; inf and nan are the texts ``Infinity`` and ``NaN``.

    Args:
        report: a dataclass.
    """
    text = to_json(report, indent=2, inf_nan_mode="strings").decode()
    write_out(f"{text}\n")


def write_out(text: str) -> None:
    """Write a text to standard output: as it is, or to a terminal without what that obeys."""
    sys.stdout.write(visible_lines(text) if sys.stdout.isatty() else text)


@contextmanager
def progress_bar() -> Iterator[None]:
    """Show how far the study, and the unit at work, are."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    screen = console(to_stderr=True)
    with Progress(*columns, console=screen, refresh_per_second=4) as bars:
        overall = bars.add_task("study", total=None)
        unit = bars.add_task("starting Prefect", total=None)

        def show(what: str, done: int, total: int) -> None:
            if what == OVERALL:
                bars.update(overall, completed=done, total=total)
            else:
                bars.update(unit, description=what, completed=done, total=total)
            if not screen.is_terminal and what == OVERALL:
                screen.print(f"study: {done} of {total} jobs")

        with listening(show):
            yield
        bars.remove_task(unit)


STOPPED = 130
"""Exit status of a command that was stopped before its end."""


def incidence_table(frame: pl.DataFrame) -> Table:
    """Return collapse incidence as a table: a row for each model, method and position.

    Args:
        frame: columns of view ``collapse_incidence``.
    """
    table = Table(title="collapse incidence (perplexity above 1000, or above 10 x unedited)")
    for name in ("model", "method", "subject position"):
        table.add_column(name)
    for name in ("collapsed", "share", "95 % interval", "worst perplexity ratio"):
        table.add_column(name, justify="right")
    previous = None
    for row in frame.iter_rows(named=True):
        if previous is not None and previous != row["model"]:
            table.add_section()
        previous = row["model"]
        table.add_row(
            plain(row["model"]),
            plain(row["method"]),
            plain(POSITIONS.get(row["subject_position"], row["subject_position"])),
            f"{row['n_collapsed']} of {row['n_edits']}",
            f"{_PERCENT * row['share']:.0f} %",
            f"{_PERCENT * row['wilson_low']:.0f} - {_PERCENT * row['wilson_high']:.0f} %",
            f"{row['max_perplexity_ratio']:.4g}",
        )
    return table


def print_frame(frame: pl.DataFrame) -> None:
    """Print a query's answer as a table with all its columns and rows."""
    screen = console()
    if not frame.width:
        screen.print("done: the statement has no answer")
        return
    table = Table()
    for name, dtype in frame.schema.items():
        table.add_column(
            plain(name), justify="right" if dtype.is_numeric() else "left", overflow="fold"
        )
    for row in frame.iter_rows():
        table.add_row(*(plain(_cell(value)) for value in row))
    screen.print(table)
    screen.print(f"{frame.height} row{'' if frame.height == 1 else 's'}")


def plain(text: str) -> Text:
    """Return a text as it is: no markup, control characters written out."""
    return Text(visible_lines(text))


def _cell(value: object) -> str:
    """Return a value as text; floats to six figures."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else _harmless(str(value))


def _harmless(text: str) -> str:
    """Return a text with what would steer a terminal, or turn its line around, written out."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def shown(path: str | Path) -> str:
    """Return a path relative to the working directory where it lies below it; a URL as it is."""
    if is_url(str(path)):
        return str(path)
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
