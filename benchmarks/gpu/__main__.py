"""Large shapes with random weights on an accelerator: ``python -m benchmarks.gpu --help``.

Needs torch and transformers, and nothing else of the project's requirements: copy ``benchmarks``
and ``src/editcollapse`` to the machine and set PYTHONPATH to their folders. Weights are random and
built on the device, so nothing is downloaded. Times depend on sizes, not on what a model knows, but
for edits that stop early, which random models' do not.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu.case import TYPES, GpuOrder, build_case
from benchmarks.gpu.floor import Speeds, measure_speeds
from benchmarks.gpu.phases import METHODS, Phase, covariance, our_edits, reference_edits
from benchmarks.machine import describe
from benchmarks.models import SHAPES
from benchmarks.results import Machine
from editcollapse.errors import EditCollapseError
from editcollapse.precision import float32_products

COUNTERFACT = 21_919
"""Records of CounterFact."""
_PER_EDIT = ("edit", "perplexity")
_EXAMPLES = """examples:
  python -m benchmarks.gpu --shape tiny --device cpu
  python -m benchmarks.gpu --shape gpt2-xl --dtype bfloat16 --json gpt2-xl.json
  python -m benchmarks.gpu --shape gpt-j-6b --dtype bfloat16 --edits 32 --reference-edits 1
"""
_USER_ERROR = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """All that one run found."""

    order: GpuOrder
    machine: Machine
    n_parameters: int
    speeds: Speeds
    phases: tuple[Phase, ...]
    largest_difference: float
    """Of the two sides' updates, relative; half types round differently on the two sides."""

    def hours(self, side: str) -> float:
        """Return the projection for all of CounterFact: four methods, v* to perplexity."""
        each = [p.each_s for p in self.phases if p.side == side and p.work in _PER_EDIT]
        return sum(each) * len(METHODS) * COUNTERFACT / 3600


@float32_products()
def run(order: GpuOrder) -> Found:
    """Build a model, measure both sides."""
    case = build_case(order)
    speeds = measure_speeds(case.loaded.device, case.loaded.dtype)
    moment, phases = covariance(case, speeds)
    # Inverted beforehand, as the public code keeps it.
    inverse = torch.linalg.inv(moment).float().to(case.loaded.device)  # noqa: TID251  the published code inverts
    updates, ours = our_edits(case, moment, speeds)
    difference, theirs = reference_edits(case, inverse, updates)
    return Found(
        order=order,
        machine=describe(case.loaded.device),
        n_parameters=case.loaded.n_parameters,
        speeds=speeds,
        phases=(*phases, *theirs, *ours),
        largest_difference=difference,
    )


def lines(found: Found) -> list[str]:
    """Return the run as text with a markdown table."""
    speeds, order = found.speeds, found.order
    table = [
        "| work | side | items | s each | floor, s each | of the floor | peak, MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for phase in found.phases:
        floor, share = "", ""
        if phase.floor is not None:
            floor = f"{phase.floor.seconds / phase.n_items:.3g}"
            share = f"{phase.floor.seconds / phase.seconds:.0%}"
        peak = "" if phase.peak_mib is None else f"{phase.peak_mib:.0f}"
        cells = (phase.work, phase.side, phase.n_items, f"{phase.each_s:.3g}", floor, share, peak)
        table.append(f"| {' | '.join(map(str, cells))} |")
    head = (
        f"{order.shape} ({SHAPES[order.shape].note}), {order.dtype}, {found.n_parameters:,} "
        f"parameters with random weights, on {found.machine.device}; "
        f"{speeds.flops_per_s / 1e12:.3g} TFLOP/s in {order.dtype} products, "
        f"{speeds.bytes_per_s / 1e9:.3g} GB/s in copies"
    )
    hours = (
        f"all {COUNTERFACT:,} records, {len(METHODS)} methods, projected: "
        f"reference {found.hours('reference'):.3g} h, ours {found.hours('ours'):.3g} h"
    )
    difference = f"updates of the two sides differ by {found.largest_difference:.1e} at most"
    return [head, "", *table, "", difference, hours]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    order = GpuOrder(**vars(_parser().parse_args(arguments)))
    try:
        found = run(order)
    except EditCollapseError as error:
        print(f"error: {error}", file=sys.stderr)
        return _USER_ERROR
    print("\n".join(lines(found)))
    if order.json is not None:
        plain = dataclasses.asdict(found)
        plain["hours"] = {side: found.hours(side) for side in ("reference", "ours")}
        order.json.write_text(json.dumps(plain, indent=1, default=str) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Measure large shapes with random weights on one device.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--shape", required=True, choices=list(SHAPES))
    add("--dtype", default="float32", choices=list(TYPES), help="of the weights")
    add("--device", default="cuda", help="a torch device (default: cuda)")
    add("--edits", type=_positive, default=64, help="edits in our batch")
    add("--reference-edits", type=_positive, default=2, help="edits of the reference")
    add("--repeats", type=_positive, default=3, help="of each piece; the fastest counts")
    add("--texts", type=_positive, default=50, help="perplexity texts")
    add("--tokens", type=_positive, help="of the covariance (default: 4 K)")
    add("--steps", type=_positive, help="passes of v* at most (default: the published number)")
    add("--json", type=Path, metavar="PATH", help="write everything there")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


if __name__ == "__main__":
    sys.exit(main())
