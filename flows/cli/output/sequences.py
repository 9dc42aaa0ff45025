"""Sequences of edits on the terminal: a line a model and editor, over the requests' orders."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from editcollapse.cli.console import console, plain, print_text
from editcollapse.cli.tables import Column, fitted, print_table
from editcollapse.visible import visible
from flows.cli.output.answers import COLLAPSED
from flows.cli.output.incidence import limits

if TYPE_CHECKING:
    from editcollapse.rows.collapse_rule import CollapseRule
    from storage.readers import EditorSequences

_PERCENT = 100
_COLUMNS = (
    Column("model"),
    Column("editor"),
    Column("collapsed", is_number=True),
    Column("median edits until collapse", is_number=True),
    Column("alive at the end", is_number=True),
    Column("final efficacy", is_number=True),
    Column("change on text", is_number=True),
)
_FEWER = 5
"""Columns where the terminal is too narrow for all."""


def print_sequences(rows: "Sequence[EditorSequences]", rule: "CollapseRule") -> None:
    """Print after how many edits each editor's sequences collapse each model, and how they end.

    Args:
        rows: of one study, in the order to be printed; nothing is printed where there are none.
        rule: what the models were judged by.
    """
    if not rows:
        return
    print_text(f"sequences of edits ({limits(rule)})")
    print_text(
        "orders whose model collapses, and edits until half of them have (earliest to latest)"
    )
    _print_ends(rows)
    for model, n_unusable in {row.model: row.n_unusable for row in rows if row.n_unusable}.items():
        print_text(
            f"of the requests {n_unusable} cannot be taken; table rejections says why",
            f"{visible(model)}: ",
        )


def _print_ends(rows: "Sequence[EditorSequences]") -> None:
    """Print the table, with fewer columns where the terminal is too narrow for all."""
    screen, cells = console(), [_cells(row) for row in rows]
    for n_columns in (len(_COLUMNS), _FEWER):
        table = fitted(
            _COLUMNS[:n_columns], [row[:n_columns] for row in cells], screen.width, parted=True
        )
        if table is not None:
            screen.print(table)
            return
    print_table(_COLUMNS, cells, screen)


def _cells(row: "EditorSequences") -> list[Text]:
    collapsed = f"{row.n_collapsed} of {row.n_orders}"
    alive, low, high = (f"{_PERCENT * share:.0f}" for share in (row.alive, row.lower, row.upper))
    efficacy = "-" if row.final_efficacy is None else f"{_PERCENT * row.final_efficacy:.0f} %"
    change = "-" if row.text_change is None else f"{row.text_change:.3g}"
    return [
        plain(row.model),
        plain(row.editor),
        Text(collapsed, style=COLLAPSED if row.n_collapsed else ""),
        Text(_until(row)),
        Text(f"{alive} % ({low} to {high})"),
        Text(efficacy),
        Text(change),
    ]


def _until(row: "EditorSequences") -> str:
    """Return the median and its range; what is not reached is above the last checkpoint."""
    if row.earliest is None:
        return f">{row.followed_to}"
    median = f">{row.followed_to}" if row.median is None else str(row.median)
    latest = f">{row.followed_to}" if row.latest is None else str(row.latest)
    return f"{median} ({row.earliest} to {latest})"
