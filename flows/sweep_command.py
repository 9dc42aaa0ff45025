"""The command ``sweep``, as ``python -m flows`` calls it."""

import argparse
import os
from typing import Any

from editcollapse.config.study_file import read_study
from editcollapse.study.results_folder import place_of
from editcollapse.study.sweep import check_layers
from flows.forecast_command import is_of_study
from flows.observe import environment
from flows.observe.command_run import run_watched
from flows.sweep_text import show_one_sweep, show_sweep
from flows.terminal import STOPPED, console, print_json, shown


def sweep(options: argparse.Namespace) -> int:
    """Sweep the edits of a study, or one edit, over the layers of its models."""
    check_layers(options.layers)
    return _of_study(options) if is_of_study(options, "sweep") else _of_edit(options)


def _of_study(options: argparse.Namespace) -> int:
    """Run the flow; show what the database holds afterwards."""
    from editcollapse.study.plan import plan_study
    from editcollapse.study.sweep import plan_sweep

    study, place = read_study(options.study), place_of(options.results)
    # A mistake in the study is told before a server starts.
    plan = plan_sweep(plan_study(study, place.name), options.layers)
    server = environment.prepare(place.here)
    if not options.json:
        where = shown(place.name)
        console().print(f"sweep of {study.name} with {server}; results in {where}", markup=False)
    if run_watched(server, _layer_sweep, study, options.layers, place.name) is None:
        return STOPPED
    from flows.sweep_reading import sweep_report

    report = sweep_report(plan)
    if options.json:
        print_json(report)
    else:
        show_sweep(report, study.methods)
    return 0


def _layer_sweep() -> Any:
    from flows.sweep_flow import layer_sweep

    return layer_sweep


def _of_edit(options: argparse.Namespace) -> int:
    """Sweep one edit in this process; nothing is stored."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from flows.sweep_reading import edit_sweep_report

    report = edit_sweep_report(options)
    if options.json:
        print_json(report)
    else:
        show_one_sweep(report)
    return 0
