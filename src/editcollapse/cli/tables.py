"""Tables that fit the terminal: names are whole, and what does not fit is printed as records."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from editcollapse.cli.console import console, write_out
from editcollapse.visible import visible_lines

_GAP = 2
"""Blanks between columns."""
_LEAST = 16
"""Narrowest width of a column that may shrink."""
_MOST_LINES = 8
"""Lines of a cell; a longer text is better read as a record."""
_PART = re.compile(r"[^_\s]*_+|[^_\s]+|\s+")
"""Where a column's name may be broken: between words, behind an underscore."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    is_number: bool = False
    """Set flush right."""
    shrinks: Literal["no", "wraps", "is cut"] = "no"
    """Whether its cells may be broken between words, or cut with an ellipsis, to save width."""


def fitted(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Text]],
    width: int,
    *,
    parted: bool = False,
) -> Table | None:
    """Return a table that is no wider than the terminal; None where there is no legible one.

    The names of columns are broken first, then the cells of columns that may shrink.

    Args:
        columns: what the cells are.
        rows: a cell a column.
        width: of the terminal, in cells.
        parted: whether rows whose first cells differ are set apart.
    """
    contents = [max((_width(row[i]) for row in rows), default=0) for i in range(len(columns))]
    whole = [column.name for column in columns]
    broken = [_broken(name, content) for name, content in zip(whole, contents, strict=True)]
    for heads, may_shrink in ((whole, False), (broken, False), (broken, True)):
        least = [_width(Text(head)) for head in heads]
        widths = [max(pair) for pair in zip(least, contents, strict=True)]
        if may_shrink:
            widths = _shrunk(columns, widths, _floors(columns, rows, least), width)
        is_legible = all(
            content <= _MOST_LINES * given or column.shrinks != "wraps"
            for column, content, given in zip(columns, contents, widths, strict=True)
        )
        if _whole(widths) <= width and is_legible:
            return _table(columns, heads, widths, rows, parted=parted)
    return None


def print_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Text]],
    screen: Console,
    *,
    parted: bool = False,
) -> None:
    """Print a table where it fits the terminal, else records; see ``fitted``."""
    table = fitted(columns, rows, screen.width, parted=parted)
    if table is not None:
        screen.print(table)
        return
    print_records([each.name for each in columns], [[cell.plain for cell in row] for row in rows])


def print_records(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows as records, ``name = value`` a line; a long value goes on below its beginning.

    Args:
        columns: names, fit to be shown.
        rows: values; control characters in them are written out.
    """
    screen = console()
    write_out("".join(f"{line}\n" for line in _record_lines(columns, rows, screen)))


def _record_lines(
    columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console
) -> Iterator[str]:
    indent = max((cell_len(name) for name in columns), default=0)
    room = max(console.width - indent - len(" = "), _LEAST)
    for number, row in enumerate(rows, start=1):
        yield f"-- row {number} --"
        for name, text in zip(columns, row, strict=True):
            value = visible_lines(text).expandtabs()
            start = " " * (indent - cell_len(name)) + f"{name} = "
            if cell_len(value) <= room and "\n" not in value:
                yield (start + value).rstrip()
                continue
            parts = Text(value).wrap(console, room, overflow="fold")
            for part in parts:
                yield start + part.plain
                start = " " * (indent + len(" = "))


def _width(text: Text) -> int:
    return max((cell_len(line) for line in text.plain.split("\n")), default=0)


def _whole(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _broken(name: str, width: int) -> str:
    """Return a column's name on lines as narrow as its cells, or as its longest word."""
    parts = _PART.findall(name)
    width = max([width, *(cell_len(part) for part in parts)])
    lines = [""]
    for part in parts:
        if lines[-1] and cell_len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part if lines[-1] else part.lstrip()
    return "\n".join(line.rstrip() for line in lines)


def _floors(
    columns: Sequence[Column], rows: Sequence[Sequence[Text]], least: Sequence[int]
) -> list[int]:
    """Return how narrow each column may become: no word is broken."""
    floors = []
    for i, column in enumerate(columns):
        words = (cell_len(word) for row in rows for word in row[i].plain.split())
        longest = max(words, default=0) if column.shrinks == "wraps" else 0
        floors.append(max(least[i], _LEAST, longest))
    return floors


def _shrunk(
    columns: Sequence[Column], widths: Sequence[int], floors: Sequence[int], width: int
) -> list[int]:
    """Return widths of which the widest that may shrink have, as far as that is needed."""
    found = list(widths)
    may = [i for i, column in enumerate(columns) if column.shrinks != "no"]
    while _whole(found) > width:
        able = [i for i in may if found[i] > floors[i]]
        if not able:
            break
        found[max(able, key=found.__getitem__)] -= 1
    return found


def _table(
    columns: Sequence[Column],
    heads: Sequence[str],
    widths: Sequence[int],
    rows: Sequence[Sequence[Text]],
    *,
    parted: bool,
) -> Table:
    table = Table(
        box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0)
    )  # the box has a blank between columns
    for column, head, width in zip(columns, heads, widths, strict=True):
        table.add_column(
            Text(head),
            justify="right" if column.is_number else "left",
            vertical="top",
            width=width,
            no_wrap=column.shrinks != "wraps",
            overflow="ellipsis",
        )
    previous = None
    for row in rows:
        if parted and previous is not None and row[0].plain != previous:
            table.add_section()
        previous = row[0].plain
        table.add_row(*row)
    return table
