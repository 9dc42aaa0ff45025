"""Layer sweeps for the terminal: a table for each model, and the layers at which all is safe."""

from collections.abc import Sequence

from rich.table import Table

from editcollapse.forecast.verdicts import ForecastReport, LayerVerdicts, SafeLayers, SweepReport
from editcollapse.study.sweep import layers_in_words
from flows.forecast_text import basis_lines
from flows.terminal import console, plain
from reports.text import POSITIONS

_PERCENT = 100


def show_sweep(report: SweepReport, methods: Sequence[str]) -> None:
    """Print for each model, layer and method which share of the requests has which verdict.

    Args:
        report: of a study.
        methods: the study's own; others are in the database.
    """
    screen = console()
    for model in dict.fromkeys(row.model for row in report.layers):
        ours = [row for row in report.layers if row.model == model and row.method in methods]
        screen.print(_table(model, ours, methods))
        told = {each.method: each for each in report.safe_layers if each.model == model}
        for method in methods:
            if method in told:
                screen.print(_sentence(told[method]), markup=False, soft_wrap=True)
    for left in report.unswept:
        screen.print(
            f"{left.model} cannot take {left.n_requests} of the requests: table rejections says "
            "why",
            markup=False,
            soft_wrap=True,
        )
    for sentence in (*report.notes, *basis_lines(report.basis)):
        screen.print(sentence, markup=False, soft_wrap=True)


def show_one_sweep(report: ForecastReport) -> None:
    """Print the sweep of one edit: its verdict at each layer by each method."""
    screen = console()
    first = report.requests[0]
    table = Table(title=plain(f"sweep of {first.model}: verdict, change bound"))
    table.add_column("layer", justify="right")
    for each in first.methods:
        table.add_column(each.forecast.method)
    for one in report.requests:
        cells = (f"{each.verdict}, {each.forecast.text_change_bound:.3g}" for each in one.methods)
        table.add_row(str(one.layer), *cells)
    place = first.position.subject_position
    screen.print(
        f"{first.prompt.replace('{}', first.subject)} -> {first.target_new}\n"
        f"subject: {POSITIONS.get(place, place)}",
        markup=False,
        soft_wrap=True,
    )
    screen.print(table)
    screen.print(report.basis[0].basis, markup=False, soft_wrap=True)


def _table(model: str, rows: Sequence[LayerVerdicts], methods: Sequence[str]) -> Table:
    """Return a model's table: a row a layer and method, two columns a position."""
    positions = sorted({row.subject_position for row in rows}, key=list(POSITIONS).index)
    by_cell = {(row.layer, row.method, row.subject_position): row for row in rows}
    table = Table(title=plain(f"{model}: % safe / at risk / will collapse, and median |a . u|"))
    table.add_column("layer", justify="right")
    table.add_column("method")
    for position in positions:
        n_requests = max(row.n_requests for row in rows if row.subject_position == position)
        table.add_column(f"{POSITIONS[position]} ({n_requests})", justify="right")
        table.add_column("|a . u|", justify="right")
    for layer in sorted({row.layer for row in rows}):
        for method in methods:
            cells = []
            for position in positions:
                row = by_cell.get((layer, method, position))
                cells += (
                    ["", ""] if row is None else [_shares(row), f"{row.median_denominator:.3g}"]
                )
            table.add_row(str(layer), method, *cells, end_section=method == methods[-1])
    return table


def _shares(row: LayerVerdicts) -> str:
    """Return the verdicts of a row in per cent."""
    counts = (row.n_safe, row.n_at_risk, row.n_will_collapse)
    return " / ".join(f"{_PERCENT * count / row.n_requests:.0f}" for count in counts)


def _sentence(each: SafeLayers) -> str:
    """Return at which layers all is safe; where none is, which comes nearest."""
    if each.layers:
        plural = "" if len(each.layers) == 1 else "s"
        return f"{each.method}: all safe at layer{plural} {layers_in_words(each.layers)}"
    return (
        f"{each.method}: all safe at no layer; the largest bound is smallest at layer "
        f"{each.safest_layer}, {each.largest_bound:.3g}"
    )
