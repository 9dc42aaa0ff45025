"""Answers of the database on the terminal: a table where it fits, else records; or JSON.

Texts of datasets, models and study files are untrusted: nothing in them is taken for markup, and
control characters are written out, for a terminal would obey them.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from editcollapse.cli.console import console, plain, print_json, print_line, print_text
from editcollapse.cli.tables import Column, fitted, print_records
from editcollapse.visible import visible

if TYPE_CHECKING:
    import polars as pl

_DIGEST = re.compile(r"[0-9a-f]{32,}")
_FIGURES = (6, 4)
"""Of a number that is not whole; the second where a table is too wide with the first."""
_LONG = 24
"""A text of more characters may take several lines of a table."""
_SOME = re.compile(r"[1-9]\d* of \d+( \(.*\))?")
"""A count of collapses as views write it: 51 of 55, or 51 of 55 (49 by nll)."""
COLLAPSED = "bold red"
"""Style of collapses wherever they are counted."""


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


def print_frame(frame: "pl.DataFrame", hidden: Sequence[str] = ()) -> None:
    """Print a query's answer with all its rows: a table if the terminal is wide enough, or records.

    Args:
        frame: the answer.
        hidden: columns that are not shown, as ``digests_in`` gives them.
    """
    if not frame.width:
        print_line("done: the statement has no answer")
        return
    shown = frame.drop(hidden)
    columns = [
        Column(
            visible(name),
            is_number=dtype.is_numeric(),
            shrinks="wraps" if _is_prose(shown[name]) else "no",
        )
        for name, dtype in shown.schema.items()
    ]
    screen = console()
    for figures in _FIGURES:
        rows = [[_cell(value, figures) for value in row] for row in shown.iter_rows()]
        table = fitted(columns, rows, screen.width)
        if table is not None:
            screen.print(table)
            break
    else:
        texts = [[_written(value, max(_FIGURES)) for value in row] for row in shown.iter_rows()]
        print_records([column.name for column in columns], texts)
    print_line(f"{frame.height} row{'' if frame.height == 1 else 's'}")
    if hidden:
        names = ", ".join(visible(name) for name in hidden)
        print_text(f"hidden: {names}; name them in the query, or --all-columns")


def digests_in(frame: "pl.DataFrame", query: str) -> list[str]:
    """Return the columns that hold digests and that the query does not name.

    Empty where the answer has no other columns.

    Args:
        frame: the answer.
        query: its SQL.
    """
    named = set(re.findall(r"\w+", query.lower()))
    found = [
        name
        for name in frame.columns
        if name.lower() not in named and _holds_digests(frame[name].drop_nulls().unique())
    ]
    return [] if len(found) == frame.width else found


def _holds_digests(values: "pl.Series") -> bool:
    """Return whether there are values and all are digests."""
    if not _is_text(values) or values.is_empty():
        return False
    return all(_DIGEST.fullmatch(value) for value in values)


def _is_text(values: "pl.Series") -> bool:
    import polars as pl

    return values.dtype == pl.String


def _is_prose(values: "pl.Series") -> bool:
    """Return whether a column has texts of several words that are long."""
    return _is_text(values) and any(
        len(value) > _LONG and " " in value for value in values.drop_nulls()
    )


def _cell(value: object, figures: int) -> Text:
    """Return a value as a cell; collapses are red."""
    text = plain(_written(value, figures))
    if isinstance(value, str) and _SOME.fullmatch(value):
        text.stylize(COLLAPSED)
    return text


def _written(value: object, figures: int) -> str:
    """Return a value as text; NULL is empty."""
    if value is None:
        return ""
    return f"{value:.{figures}g}" if isinstance(value, float) else str(value)
