"""Edits a second of v* by batch size, from a few passes of each."""

import dataclasses

from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.measuring import once
from benchmarks.gpu.reporting import Reporter
from editcollapse.rome.values import optimise_values

SIZES = (1, 4, 16, 64, 256)
_SHORT, _LONG = 2, 4
"""Passes of two runs; the difference is what passes cost, the rest is what runs once."""


def figure_of(n_edits: int) -> tuple[str, str]:
    """Return what and unit of one size's figure."""
    return (f"v* in batches of {n_edits}", "edits/s")


FIGURES = tuple(figure_of(n_edits) for n_edits in SIZES)


def measure(case: GpuCase, clock: Clock, report: Reporter) -> None:
    """Write the edits a second of each size of batch that there is time for."""
    before_s = before_n = 0.0
    for n_edits in SIZES:
        rewrites = case.rewrites[:n_edits]
        expected_s = before_s * n_edits / before_n if before_n else 0.0
        why = ""
        if len(rewrites) < n_edits:
            why = f"the case has {len(rewrites)} edits"
        elif not clock.fits(expected_s):
            why = f"no time: it would take {expected_s:.0f} s"
        if why:
            report.leave_out([figure_of(n_edits)], why)
            continue
        groups = [[rewrites[b] for b in group] for group in case.groups(n_edits)]

        def run(steps: int) -> float:
            settings = dataclasses.replace(case.values, steps=steps)

            def work() -> None:
                for group in groups:  # noqa: B023  called at once
                    optimise_values(case.hooked, group, settings)

            return once(work, case.device).seconds

        if not before_n:
            run(_SHORT)  # the first run of a process sets up libraries
        short_s, long_s = run(_SHORT), run(_LONG)
        pass_s = max(0.0, (long_s - short_s) / (_LONG - _SHORT))
        whole_s = short_s + (case.values.steps - _SHORT) * pass_s
        note = f"{case.values.steps} passes, from runs of {_SHORT} and {_LONG}"
        report.say(*figure_of(n_edits), n_edits / whole_s, note)
        before_s, before_n = short_s + long_s, float(n_edits)
