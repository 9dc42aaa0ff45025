"""Profile of one of our batches: the profiler's top operators."""

import dataclasses
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.reporting import Reporter
from benchmarks.machine import timed
from editcollapse.evaluation.perplexity import text_nll
from editcollapse.rome.updates import RankOneUpdates
from editcollapse.rome.values import optimise_values

_PASSES = 4
_TOP = 8
FIGURES = (("profile: device busy", "share"),)


def measure(case: GpuCase, n_edits: int, report: Reporter) -> None:
    """Write the operators that take most of the device's time, as shares of all of it.

    A batch of some passes of v*, then perplexity by one method; updates are random, since only
    sizes matter.
    """
    device = case.device
    rewrites = case.rewrites[:n_edits]
    groups = case.groups(n_edits)
    settings = dataclasses.replace(case.values, steps=_PASSES)
    draw = torch.Generator().manual_seed(0)
    widths = case.loaded.widths
    updates = RankOneUpdates(
        torch.randn((n_edits, widths.d_model), generator=draw, dtype=torch.float64),
        torch.randn((n_edits, widths.d_key), generator=draw, dtype=torch.float64),
    )
    budget = case.budget("evaluation")

    def work() -> None:
        for group in groups:
            optimise_values(case.hooked, [rewrites[b] for b in group], settings)
        text_nll(case.hooked, case.texts, updates, budget)

    work()
    on_device = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_device else [])
    whole_s = timed(work, device)  # without the profiler, which slows the CPU's side
    with profile(activities=activities) as profiler:
        timed(work, device)
    operators: list[tuple[float, str, int]] = []
    total_s = 0.0
    for each in profiler.key_averages():
        event: Any = each
        own_s = (event.self_device_time_total if on_device else event.self_cpu_time_total) / 1e6
        is_operator = event.device_type.name == "CPU"
        if is_operator and own_s > 0:
            operators.append((own_s, event.key, event.count))
        # On a GPU kernels have lines of their own, besides the operators that started them.
        if is_operator != on_device and not getattr(event, "is_user_annotation", False):
            total_s += own_s
    note = f"{n_edits} edits, {_PASSES} passes and one perplexity in {whole_s:.2f} s"
    report.say(*FIGURES[0], total_s / whole_s, note)
    for own_s, name, count in sorted(operators, reverse=True)[:_TOP]:
        report.say(f"profile: {name}", "share", own_s / total_s, f"{count} calls")
