"""Results as markdown tables and as JSON."""

import dataclasses
import json
from pathlib import Path

from benchmarks.choices import TOLERANCE
from benchmarks.documents import Marks
from benchmarks.results import Results, Spread

MARKS = Marks.of("benchmarks")
"""Where ``--markdown`` writes."""


def markdown(found: Results) -> str:
    """Return everything that was measured as markdown."""
    machine = found.machine
    introduction = (
        f"Measured with `{found.command}` on {machine.cpu}, {machine.cores} cores, "
        f"{machine.threads} threads, device {machine.device}; Python {machine.python}, "
        f"torch {machine.torch}, transformers {machine.transformers}; a float32 matrix product "
        f"runs at {machine.product_gflops:.0f} GFLOP/s here. Figures are medians with lowest and "
        "highest; the two sides ran in turn in one process."
    )
    parts = [
        introduction,
        *_comparisons(found),
        *_agreements(found),
        *_uses(found),
        *_scaled(found),
        *_sequence_costs(found),
        *_peaks(found),
        *_overheads(found),
        *_operators(found),
        *found.notes,
    ]
    return "\n\n".join(parts) + "\n"


def write_json(found: Results, path: Path) -> None:
    """Write everything that was measured as JSON."""
    path.write_text(json.dumps(dataclasses.asdict(found), indent=1) + "\n", encoding="utf-8")


def write_markdown(found: Results, path: Path) -> None:
    """Write the tables between the marks of a document, or as a new one.

    Raises:
        ResultsError: the document is there and has no marks.
    """
    MARKS.write(path, markdown(found))


def disagreements(found: Results) -> list[str]:
    """Return a sentence for each result of the two sides that is too far apart."""
    return [
        f"{each.model}: {each.quantity} differ by {each.largest:.1e}, {TOLERANCE:.0e} is allowed"
        for each in found.agreements
        if not each.largest <= TOLERANCE
    ]


def _table(title: str, heads: list[str], rows: list[list[str]]) -> list[str]:
    """Return a heading and a table; nothing without rows."""
    if not rows:
        return []
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"**{title}**", "\n".join(f"| {' | '.join(cells)} |" for cells in lines)]


def _comparisons(found: Results) -> list[str]:
    heads = ["work", "model", "unit", "reference", "ours", "ratio", "how"]
    rows = [
        [
            each.work,
            each.model,
            each.unit,
            _spread(each.reference),
            _spread(each.ours),
            f"**{each.ratio:.1f}**",
            f"{each.note}; {each.ours.n_repeats} repeats",
        ]
        for each in found.comparisons
    ]
    return _table("Both sides in turn (rates: more is faster)", heads, rows)


def _agreements(found: Results) -> list[str]:
    rows = [
        [each.model, each.quantity, f"{each.largest:.1e}", str(each.n_compared)]
        for each in found.agreements
    ]
    title = f"Agreement of the two sides, float32 (at most {TOLERANCE:.0e} is allowed)"
    return _table(title, ["model", "results", "largest relative difference", "compared"], rows)


def _uses(found: Results) -> list[str]:
    rows = [
        [
            each.work,
            each.model,
            each.side,
            f"{each.flops_per_item / 1e6:.3g}",
            f"{each.reached / 1e9:.3g}",
            f"{each.product / 1e9:.3g}",
            f"{each.reached / each.product:.0%}",
        ]
        for each in found.uses
    ]
    heads = ["work", "model", "side", "MFLOP/token", "GFLOP/s", "plain product GFLOP/s", "share"]
    return _table("Linear layers and k kT against a plain matrix product", heads, rows)


def _scaled(found: Results) -> list[str]:
    rows = [
        [
            each.model,
            each.varied,
            str(each.size),
            "" if each.reference_s is None else _spread(each.reference_s),
            _spread(each.ours_s),
        ]
        for each in found.scaled
    ]
    heads = ["model", "varied", "size", "reference, s", "ours, s"]
    return _table(
        "Seconds an edit (edits in a batch: v* and update; texts: perplexity)", heads, rows
    )


def _sequence_costs(found: Results) -> list[str]:
    rows = [
        [
            each.model,
            each.editor,
            f"{each.first_step} to {each.last_step}",
            _spread(each.step_s),
            f"{each.passes:.3g}",
            "" if each.exponent is None else _spread(each.exponent),
        ]
        for each in found.sequence_costs
    ]
    heads = ["model", "editor", "steps", "ours, s a step", "passes a step", "exponent of the total"]
    return _table("Cost of a sequence by its length, its state's files included", heads, rows)


def _peaks(found: Results) -> list[str]:
    rows = [
        [
            each.model,
            each.side,
            str(each.n_edits),
            f"{each.opened_mib:.0f}",
            f"{each.peak_mib:.0f}",
            f"{each.peak_mib - each.opened_mib:.0f}",
        ]
        for each in found.peaks
    ]
    heads = ["model", "side", "edits at once", "loaded, MiB", "peak, MiB", "on top, MiB"]
    return _table("Resident memory, each side in a process of its own", heads, rows)


def _overheads(found: Results) -> list[str]:
    rows = [
        [
            each.model,
            f"{each.n_edits} in batches of {each.batch_size}",
            _spread(each.units_s),
            _spread(each.flow_s),
            f"{each.share:.1%}",
            f"{each.note}; {each.flow_s.n_repeats} repeats",
        ]
        for each in found.overheads
    ]
    heads = ["model", "edits", "units alone, s", "whole flow, s", "on top", "how"]
    return _table("Prefect and DuckDB", heads, rows)


def _operators(found: Results) -> list[str]:
    rows = [
        [each.model, f"`{each.name}`", str(each.calls), f"{each.self_s:.3g}", f"{each.share:.1%}"]
        for each in found.operators
    ]
    return _table(
        "Where one of our batches spends its time", ["model", "operator", "calls", "s", ""], rows
    )


def _spread(spread: Spread) -> str:
    if spread.n_repeats == 1:
        return _number(spread.median)
    return f"{_number(spread.median)} ({_number(spread.lowest)} to {_number(spread.highest)})"


def _number(value: float) -> str:
    """Return three significant digits without an exponent where that reads well."""
    large = 1000
    return f"{value:,.0f}" if abs(value) >= large else f"{value:.3g}"
