"""All that is measured of one model's shape, in both types, within the time that there is."""

import torch

from benchmarks.gpu import batches, covariance, edits, operators
from benchmarks.gpu.case import TYPES, GpuCase, Sizes, build_case
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.figures import FigureFile
from benchmarks.gpu.floor import measure_speeds
from benchmarks.gpu.memory import peak_figures
from benchmarks.gpu.reporting import Reporter
from editcollapse.runtime.precision import float32_products

_SHARE_FOR_COVARIANCE = 0.25
_SHARE_FOR_EDITS = 0.75
"""Of what is left after C; batches and the profile have the rest."""
_PROFILED = 64


@float32_products()
def measure_shape(
    shape: str, device: torch.device, clock: Clock, file: FigureFile, sizes: Sizes
) -> None:
    """Write all figures of a shape.

    Args:
        shape: a name in ``benchmarks.models.SHAPES``.
        device: where the model is built.
        clock: of the part.
        file: that figures are written to as they come.
        sizes: of the data.
    """
    case = build_case(shape, "float32", device, sizes)
    for index, dtype in enumerate(TYPES):
        own = clock.share(1 / (len(TYPES) - index))
        case = case if dtype == case.dtype else case.in_type(dtype)
        _measure_case(case, own, Reporter(file, shape, dtype))


def _measure_case(case: GpuCase, clock: Clock, report: Reporter) -> None:
    """Write all figures of a shape in one type."""
    device = case.device
    speeds = measure_speeds(device, case.loaded.dtype)
    report.say("plain matrix product", "TFLOP/s", speeds.flops_per_s / 1e12, "random numbers")
    report.say("copy", "GB/s", speeds.bytes_per_s / 1e9, "bytes read and written")
    moment = report.attempt(
        (*covariance.FIGURES, *peak_figures("moment")),
        lambda: covariance.measure(case, speeds, clock.share(_SHARE_FOR_COVARIANCE), report),
        device,
    )
    report.attempt(
        edits.FIGURES,
        lambda: edits.measure(case, moment, speeds, clock.share(_SHARE_FOR_EDITS), report),
        device,
    )
    if clock.left:
        report.attempt(
            operators.FIGURES,
            lambda: operators.measure(case, min(_PROFILED, len(case.rewrites)), report),
            device,
        )
    else:
        report.leave_out(operators.FIGURES, "no time")
    report.attempt(batches.FIGURES, lambda: batches.measure(case, clock, report), device)
