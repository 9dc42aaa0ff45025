"""Markdown tables of the generated documents."""

import math
from collections.abc import Iterable, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a cell is text that does not end it."""
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join('---' for _ in head)}|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """Return a value in at most four significant figures, as text that does not end its cell.

    Line breaks become blanks: a row of the table is a line.
    """
    if value is None:
        return "NULL"
    if isinstance(value, float):
        # Sums differ in their last bits from run to run; half-way cases must not show that.
        return f"{float(f'{value:.10g}'):.4g}" if math.isfinite(value) else str(value)
    return " ".join(str(value).split()).replace("|", "\\|")
