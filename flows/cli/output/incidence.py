"""The incidence of collapse on the terminal: a line a model and method, positions as columns."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from editcollapse.cli.console import console, plain, print_line, print_text
from editcollapse.cli.tables import Column, fitted, print_table
from editcollapse.rows.collapse_rule import MEASURES, Measure, otherwise
from editcollapse.rows.study import POSITIONS
from flows.cli.output.answers import COLLAPSED

if TYPE_CHECKING:
    import polars as pl

    from editcollapse.rows.collapse_rule import CollapseRule

_PERCENT = 100
_WORST = "worst perplexity ratio"


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    """The edits of one model by one method; rows of ``collapse_incidence`` by position."""

    model: str
    method: str
    by_position: dict[str, dict[str, Any]]

    @property
    def worst(self) -> float:
        """Largest perplexity ratio; nan counts as the largest, as in the view."""
        rows = self.by_position.values()
        ratios: list[float] = [row["max_perplexity_ratio"] for row in rows]
        return max(ratios, key=lambda ratio: (math.isnan(ratio), ratio))


def print_incidence(frame: "pl.DataFrame", rule: "CollapseRule") -> None:
    """Print how many edits collapse each model, by method and position of the subject.

    Shares and their 95 % intervals stand beside the counts where the terminal is wide enough. Where
    it is too narrow for names of models beside the counts, each model has a table of its own.

    Args:
        frame: columns of view ``collapse_incidence``, in the order to be printed.
        rule: what the edits were judged by.
    """
    lines = _lines(frame)
    positions = [each for each in POSITIONS if any(each in line.by_position for line in lines)]
    screen = console()
    print_text(f"collapse incidence ({limits(rule)})")
    print_line("edits that collapse the model, of those measured, by place of the subject")
    names = ["model", "method", *(POSITIONS[each] for each in positions), _WORST]
    columns = [Column(name, is_number=name not in {"model", "method"}) for name in names]
    for has_share in (True, False):
        rows = [_cells(line, positions, rule.measure, has_share=has_share) for line in lines]
        table = fitted(columns, rows, screen.width, parted=True)
        if table is not None:
            screen.print(table)
            return
    for model in dict.fromkeys(line.model for line in lines):
        rows = [_cells(line, positions, rule.measure)[1:] for line in lines if line.model == model]
        print_line(model)
        print_table(columns[1:], rows, screen)


def _lines(frame: "pl.DataFrame") -> list[_Line]:
    """Return the lines in the order in which the rows name models and methods."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in frame.iter_rows(named=True):
        found.setdefault((row["model"], row["method"]), {})[row["subject_position"]] = row
    return [_Line(model, method, rows) for (model, method), rows in found.items()]


def limits(rule: "CollapseRule") -> str:
    """Return the rule in a few words."""
    above = []
    if rule.threshold is not None:
        above.append(f"above {rule.threshold:g}")
    if rule.ratio is not None:
        above.append(f"above {rule.ratio:g} x unedited")
    by = "" if rule.measure == "mean" else f", {MEASURES[rule.measure]},"
    return f"perplexity{by} {', or '.join(above)}"


def _cells(
    line: _Line, positions: Sequence[str], measure: Measure, *, has_share: bool = False
) -> list[Text]:
    counts = [
        _count(line.by_position.get(each), measure, has_share=has_share) for each in positions
    ]
    return [plain(line.model), plain(line.method), *counts, Text(f"{line.worst:.4g}")]


def _count(row: dict[str, Any] | None, measure: Measure, *, has_share: bool) -> Text:
    """Return collapsed of measured, red where not 0; a dash where none is measured."""
    if row is None:
        return Text("-")
    text = f"{row['n_collapsed']} of {row['n_edits']}{otherwise(row, measure)}"
    if has_share:
        low, high = (f"{_PERCENT * row[name]:.0f}" for name in ("wilson_low", "wilson_high"))
        text = f"{text}, {_PERCENT * row['share']:.0f} % ({low} to {high})"
    return Text(text, style=COLLAPSED if row["n_collapsed"] else "")
