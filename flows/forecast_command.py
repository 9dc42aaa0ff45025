"""The commands ``forecast`` and ``calibrate``, as ``python -m flows`` calls them."""

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

from editcollapse.config.study_file import read_study
from editcollapse.errors import ResultsError, StudyError
from editcollapse.forecast.verdicts import ForecastReport
from editcollapse.rows.study import ForecastCalibrationRow
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.results_folder import ResultsFolder, place_of
from flows.forecast_text import show_calibration, show_one, show_study
from flows.observe import environment
from flows.observe.command_run import run_watched
from flows.terminal import STOPPED, console, print_json, shown

_OF_ONE = ("model", "prompt", "subject", "target")


def forecast(options: argparse.Namespace) -> int:
    """Forecast the edits of a study, or one edit."""
    return _of_study(options) if is_of_study(options, "forecast") else _of_edit(options)


def is_of_study(options: argparse.Namespace, what: str) -> bool:
    """Return whether the command line names a study rather than one edit.

    Args:
        options: the command line's.
        what: the command, for messages.

    Raises:
        StudyError: it names both, or neither whole.
    """
    given = [name for name in _OF_ONE if getattr(options, name) is not None]
    if options.study is not None and given:
        raise StudyError(
            f"a study and --{given[0]} were given; a {what} is of either. Leave one out."
        )
    missing = [f"--{name}" for name in _OF_ONE if name not in given]
    if options.study is None and missing:
        raise StudyError(
            f"nothing to {what}: {', '.join(missing)} not given. Name a study file, or --model, "
            "--prompt, --subject and --target of one edit."
        )
    return options.study is not None


def _of_study(options: argparse.Namespace) -> int:
    """Run the flow; show what the database holds afterwards."""
    from editcollapse.study.plan import plan_study

    study, place = read_study(options.study), place_of(options.results)
    plan = plan_study(study, place.name)  # a mistake in the study is told before a server starts
    server = environment.prepare(place.here)
    if not options.json:
        where = shown(place.name)
        console().print(f"forecast of {study.name} with {server}; results in {where}", markup=False)
    if run_watched(server, _collapse_forecast, study, place.name) is None:
        return STOPPED
    from flows.forecast_reading import study_report

    report = study_report(plan)
    if options.json:
        print_json(report)
    else:
        show_study(report, study.methods)
    return 0


def _collapse_forecast() -> Any:
    from flows.forecast_flow import collapse_forecast

    return collapse_forecast


def _of_edit(options: argparse.Namespace) -> int:
    """Forecast one edit in this process; nothing is stored."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from flows.edit_reading import edit_report

    report: ForecastReport = edit_report(options)
    if options.json:
        print_json(report)
    else:
        show_one(report)
    return 0


def calibrate(options: argparse.Namespace) -> int:
    """Take thresholds from what was measured, store them, and say what they do."""
    from storage.ask import ask
    from storage.publish import folder_to_read
    from storage.readers import Wanted
    from storage.readers import calibrate as measure

    place = place_of(options.results)
    wanted = Wanted(options.recall, options.precision, options.threshold, options.ratio)
    found = measure(folder_to_read(place), wanted)
    _record(place, [row for _, row in found.rows])
    show_calibration(found, ask(folder_to_read(place), "from forecast_skill where n_collapsed > 0"))
    return 0


def _record(place: ResultsFolder, rows: Sequence[ForecastCalibrationRow]) -> None:
    """Write calibrations to a row file and publish it."""
    from storage.publish import publish, snapshot_is_current

    ArtifactStore(place.name).put_rows("forecast_calibrations", rows)
    publish(place)
    if not snapshot_is_current(place):
        raise ResultsError(f"the calibration was not published in {place.name}. Run this again.")


FORECASTS: dict[str, Callable[[argparse.Namespace], int]] = {
    "forecast": forecast,
    "calibrate": calibrate,
}
