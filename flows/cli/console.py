"""What the terminal shows: a progress bar, tables, JSON, and the sentences around them.

Texts of datasets, models and study files are untrusted: nothing in them is taken for markup, and
control characters are written out, for a terminal would obey them.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from editcollapse.visible import visible_lines
from reports.text import POSITIONS

if TYPE_CHECKING:
    import polars as pl

    from editcollapse.rows.collapse_rule import CollapseRule

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


def say(text: str) -> None:
    """Print a text to standard output as it is: no markup, no line broken."""
    console().print(text, markup=False, soft_wrap=True)


def print_json(report: object) -> None:
    """Print a report as JSON: nothing else may go to standard output.

    Numbers that JSON cannot write are the texts ``Infinity``, ``-Infinity`` and ``NaN``; bytes are
    base64, times ISO 8601, and what SQL calls NULL is null.

    Args:
        report: a dataclass, or the rows of a frame as ``DataFrame.to_dicts`` gives them.
    """
    from pydantic_core import to_json

    text = to_json(report, indent=2, inf_nan_mode="strings", bytes_mode="base64").decode()
    write_out(f"{text}\n")


def print_rows(frame: "pl.DataFrame") -> None:
    """Print the rows of a frame as a JSON array of objects, as ``print_json`` does.

    Sums of whole numbers, which DuckDB gives as decimals, are numbers; so are other decimals, in
    double precision.
    """
    import polars as pl

    numbers = [
        pl.col(name).cast(pl.Int128 if dtype.scale == 0 else pl.Float64)
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Decimal)
    ]
    print_json(frame.with_columns(numbers).to_dicts())


def write_out(text: str) -> None:
    """Write a text to standard output: as it is, or to a terminal without what that obeys."""
    sys.stdout.write(visible_lines(text) if sys.stdout.isatty() else text)


@contextmanager
def progress_bar() -> Iterator[None]:
    """Show how far the study, and the unit at work, are."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from editcollapse.runtime.environment import OVERALL, listening

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


def incidence_table(frame: "pl.DataFrame", rule: "CollapseRule") -> Table:
    """Return collapse incidence as a table: a row for each model, method and position.

    Args:
        frame: columns of view ``collapse_incidence``.
        rule: what the edits were judged by.
    """
    above = []
    if rule.threshold is not None:
        above.append(f"above {rule.threshold:g}")
    if rule.ratio is not None:
        above.append(f"above {rule.ratio:g} x unedited")
    table = Table(title=f"collapse incidence (perplexity {', or '.join(above)})")
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


def print_frame(frame: "pl.DataFrame") -> None:
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
    from editcollapse.study.results_folder import is_url

    if is_url(str(path)):
        return str(path)
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
