"""The command line: ``python -m flows``.

A user's mistake is one sentence on stderr and exit status 2; anything else keeps its traceback.
"""

import argparse
import atexit
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from editcollapse.config.spec import StudySpec
from editcollapse.config.study_file import read_study
from editcollapse.errors import EditCollapseError, ResultsError, nearest_first
from editcollapse.study.results_folder import place_name, place_of
from flows import surroundings, upkeep
from flows.anatomy_command import anatomy
from flows.edit_command import EDITS
from flows.edit_options import REFUSED
from flows.forecast_command import FORECASTS
from flows.operations import OPERATIONS
from flows.options import build_parser
from flows.plan_text import plan_lines, survey_lines
from flows.sweep_command import sweep
from flows.terminal import (
    STOPPED,
    console,
    incidence_table,
    print_frame,
    progress_bar,
    shown,
    write_out,
)
from flows.watched import run_watched

USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except EditCollapseError as error:
        console(to_stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        return USER_ERROR
    except KeyboardInterrupt:
        console(to_stderr=True).print("stopped: the same command goes on from here")
        return STOPPED


def run(options: argparse.Namespace) -> int:
    """Run a study and print what it found."""
    study, place = read_study(options.study), place_of(options.results)
    from flows.run.guard_steps import plan_guarded

    plan_guarded(study, place.name)  # a mistake in the study is told before a server starts
    server = surroundings.prepare(place.here)
    screen = console()
    screen.print(f"study {study.name} with {server}; results in {shown(place.name)}", markup=False)
    study_id = run_watched(server, _collapse_study, study, place.name)
    if study_id is None:
        return STOPPED
    from storage.queries import incidence

    screen.print(incidence_table(incidence(place.here, study_id)))
    _print_epilogue(study, place.name)
    return 0


def _collapse_study() -> Any:
    from flows.study import collapse_study

    return collapse_study


def _print_epilogue(study: StudySpec, results: str) -> None:
    """Print the claim, where the results lie, and what to try next."""
    from reports.page import report_path
    from storage.database import SNAPSHOT

    screen = console()
    if study.note:
        screen.print(f"\nNote: {study.note}", markup=False)
    snapshot = shown(f"{results}/{SNAPSHOT}")
    screen.print(f"\nresults: {snapshot}", markup=False, soft_wrap=True)
    page = shown(f"{results}/{report_path(study.name)}")
    screen.print(f"report:  {page}", markup=False, soft_wrap=True)
    at = "" if results == place_name("results") else f" --results {shown(results)}"
    query = "select model, method, subject_position, n_collapsed, n_edits from collapse_incidence"
    screen.print(f'next:    python -m flows sql "{query}"{at}', markup=False, soft_wrap=True)


def plan(options: argparse.Namespace) -> int:
    """Print what a study would run; where inputs are not here, what is known without them."""
    from editcollapse.study.missing_inputs import missing_inputs

    study, place = read_study(options.study), place_of(options.results)
    screen = console()
    missing = list(missing_inputs(study))
    if missing:
        for line in survey_lines(study, missing):
            screen.print(line, markup=False, soft_wrap=True)
        return 0
    from flows.outlook import model_outlook
    from flows.run.guard_steps import plan_guarded

    found = plan_guarded(study, place.name)
    outlooks = [model_outlook(found, model) for model in found.models]
    for line in plan_lines(found, outlooks):
        screen.print(line, markup=False, soft_wrap=True)
    return 0


def sql(options: argparse.Namespace) -> int:
    """Answer a query of the published results."""
    from storage.queries import ask
    from storage.sharing import folder_to_read

    frame = ask(folder_to_read(place_of(options.results)), options.query)
    if options.csv:
        write_out(frame.write_csv())
    else:
        print_frame(frame)
    return 0


def tables(options: argparse.Namespace) -> int:
    """List what can be asked."""
    from storage.queries import describe_tables
    from storage.sharing import folder_to_read

    frame = describe_tables(folder_to_read(place_of(options.results)))
    if options.table is not None:
        names = frame["name"].unique().to_list()
        if options.table not in names:
            known = nearest_first(options.table, names)
            raise ResultsError(f"no table or view {options.table!r}. Known: {known}.")
        print_frame(frame.filter(name=options.table).drop("kind", "name", "n_rows"))
        return 0
    whole = frame.filter(frame["column"].is_null())
    print_frame(whole.select("kind", "name", "n_rows", "comment"))
    return 0


def check_model(options: argparse.Namespace) -> int:
    """Verify a model's architecture row on its weights."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from editcollapse.config.spec import ModelSpec
    from editcollapse.models.loading import load_model
    from editcollapse.rome.check import check_model as verify
    from editcollapse.runtime.environment import asked_device

    spec = ModelSpec(
        name="checked",
        source=options.model,
        revision=options.revision,
        dtype=options.dtype,
        start_token=options.start_token,
    )
    found = verify(load_model(spec, asked_device()), options.layer)
    for line in found.lines():
        console().print(line, markup=False, soft_wrap=True)
    return 0 if found.passed else 1


def report(options: argparse.Namespace) -> int:
    """Write a study's HTML report."""
    from reports.page import write_report
    from storage.findings import find_study
    from storage.sharing import folder_to_read

    place = place_of(options.results)
    path = write_report(place, find_study(folder_to_read(place), options.study))
    console().print(f"report: {shown(f'{place.name}/{path}')}", markup=False, soft_wrap=True)
    return 0


def rebuild(options: argparse.Namespace) -> int:
    """Make the database again from the row files."""
    from storage.database import STORE
    from storage.rows import ROWS_FOLDER
    from storage.sharing import rebuild_from

    place = place_of(options.results)
    rows = place.here / ROWS_FOLDER
    if not place.list(ROWS_FOLDER.as_posix()) and not (place.here / STORE).is_file():
        raise ResultsError(
            f"nothing to rebuild from: there is no {rows}. Name the folder that a study wrote to "
            "with --results."
        )
    report = rebuild_from(place)
    screen = console()
    for skipped in report.skipped:
        screen.print(f"skipped {skipped.path}: {skipped.reason}", markup=False, soft_wrap=True)
    screen.print(f"rebuilt from {report.n_files} files: {report.n_rows} rows")
    return 0


def pretrain(options: argparse.Namespace) -> int:
    """Train the demo models again."""
    output = options.output.resolve()
    surroundings.prepare(output)
    with progress_bar():
        from demo.train.flow import pretrain_demo_models

        pretrain_demo_models(str(output))
    console().print(f"demo models and data: {shown(output)}")
    return 0


_COMMANDS = {
    "run": run,
    "plan": plan,
    "sql": sql,
    "tables": tables,
    "check-model": check_model,
    "report": report,
    "rebuild": rebuild,
    "gc": upkeep.gc,
    "backup": upkeep.backup,
    "restore": upkeep.restore,
    "pretrain": pretrain,
    "anatomy": anatomy,
    **FORECASTS,
    **EDITS,
    "sweep": sweep,
    **OPERATIONS,
}


def _leave(status: int) -> None:
    """End the process; DuckDB's binding prints a page of leak notes where Python unwinds."""
    if status in {USER_ERROR, REFUSED}:  # the last line says what to do, or why nothing was done
        logging.disable()
        logging.raiseExceptions = False
    atexit._run_exitfuncs()  # noqa: SLF001  stops Prefect's temporary server
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _leave(main())
