"""What the terminal shows of a study: tables of the database.

Texts of datasets, models and study files are untrusted: nothing in them is taken for markup, and
control characters are written out, for a terminal would obey them.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from editcollapse.cli.console import console, plain, print_json
from editcollapse.rows.study import POSITIONS

if TYPE_CHECKING:
    import polars as pl

    from editcollapse.rows.collapse_rule import CollapseRule

_PERCENT = 100


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


def _cell(value: object) -> str:
    """Return a value as text; floats to six figures."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def shown(path: str | Path) -> str:
    """Return a path relative to the working directory where it lies below it; a URL as it is."""
    from editcollapse.study.results_folder import is_url

    if is_url(str(path)):
        return str(path)
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
