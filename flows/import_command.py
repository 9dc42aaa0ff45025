"""The command that takes in what other programs found: ``python -m flows import``."""

import argparse
from pathlib import Path

from editcollapse.importing import FORMATS, ImportedRun, read_foreign_results
from editcollapse.study.results_folder import place_of
from flows.option_parts import add_command, add_results
from flows.terminal import console, shown

_SHOWN = 10
"""Rejections that are printed; the database has all of them."""


def add_import(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's words (docs/sql.md)."""
    command = add_command(
        commands,
        "import",
        "take in the results of kmeng01/memit or EasyEdit, to be queried next to ours",
        "python -m flows import results/MEMIT/run_000 --format memit --model gpt-j --method memit\n"
        "  python -m flows import logs/results.json --format easyedit --name r-rome-zsre",
    )
    command.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="memit: a run folder with its case files, or one of them; easyedit: results.json",
    )
    command.add_argument("--format", required=True, choices=FORMATS, help="what wrote it")
    command.add_argument("--name", default="", help="what to call the run (default: SOURCE's name)")
    command.add_argument("--model", default="", help="what was edited; the files do not say")
    command.add_argument("--method", default="", help="how; the files do not say")
    add_results(command)


def import_results(options: argparse.Namespace) -> int:
    """Read others' results, record them, and say what is not known of them."""
    found = read_foreign_results(
        options.source,
        options.format,
        name=options.name,
        model=options.model,
        method=options.method,
    )
    n_rows = _record(found, options.results)
    run, screen = found.run, console()
    for rejection in found.rejections[:_SHOWN]:
        line = f"rejected {rejection.place}: {rejection.reason}"
        screen.print(shown(line), markup=False, soft_wrap=True)
    if len(found.rejections) > _SHOWN:
        screen.print(f"and {len(found.rejections) - _SHOWN} more: table imported_rejections")
    verb = "imported" if n_rows else "known already:"
    screen.print(
        shown(f"{verb} {run.source}: {run.n_edits} of {run.n_records} records, id {run.import_id}"),
        markup=False,
        soft_wrap=True,
    )
    screen.print(shown(f"not known of them: {run.unknown}"), markup=False, soft_wrap=True)
    screen.print('ask:  python -m flows sql "from all_edits"', markup=False, soft_wrap=True)
    return 0


def _record(found: ImportedRun, results: str) -> int:
    """Write the rows to row files, enter and publish them; return how many were new."""
    from editcollapse.study.artifacts import ArtifactStore
    from storage.rows import RowsFile
    from storage.sharing import publish, take_in

    place = place_of(results)
    store = ArtifactStore(results)
    rows = {
        "imported_edits": found.edits,
        "imported_rejections": found.rejections,
        "imported_runs": (found.run,),
    }
    refs = [store.put_rows(table, part) for table, part in rows.items() if part]
    files = [RowsFile(str(ref.table), Path(ref.path), ref.digest) for ref in refs]
    n_rows = take_in(place, files).n_rows
    publish(place)
    return n_rows
