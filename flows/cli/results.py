"""Commands on a results folder: ask it, report on it, tidy it up, back it up, bring it back."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from editcollapse.errors import ResultsError, nearest_first
from flows.cli.console import (
    console,
    print_frame,
    print_json,
    print_rows,
    say,
    shown,
    write_out,
)
from flows.cli.options import PROGRAM, JsonOption, ResultsOption, examples

if TYPE_CHECKING:
    from storage.litter import Litter

_HOUR_S = 3600.0
_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000
_PANEL = "Results"

commands = typer.Typer()


@dataclasses.dataclass(frozen=True, slots=True)
class TidyReport:
    """What ``gc`` found, for ``--json``."""

    removed: bool
    """Whether the files of ``litter`` are gone."""
    litter: "tuple[Litter, ...]"
    n_fresh: int
    """Files that were left because a run may need them."""
    unrecorded: "tuple[Litter, ...]"
    """Files of units without a row in the database, which were left."""


@commands.command(
    rich_help_panel=_PANEL,
    epilog=examples(
        'sql "from collapse_incidence"',
        'sql "from collapse_incidence(threshold := 500, ratio := null)"',
        'sql --json "from collapse_incidence"',
        'sql --csv "select * from edit_outcomes" > outcomes.csv',
    ),
)
def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="DuckDB SQL")],
    csv: Annotated[bool, typer.Option("--csv", help="print CSV instead of a table")] = False,
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """Ask the published results; read-only."""
    from editcollapse.study.results_folder import place_of
    from storage.queries import ask
    from storage.sharing import folder_to_read

    if csv and as_json:
        raise ResultsError("--csv and --json were given; an answer is either. Leave one out.")
    frame = ask(folder_to_read(place_of(results)), query)
    if csv:
        write_out(frame.write_csv())
    elif as_json:
        print_rows(frame)
    else:
        print_frame(frame)
    return 0


@commands.command(
    rich_help_panel=_PANEL, epilog=examples("tables", "tables edit_outcomes", "tables --json")
)
def tables(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="list the columns of this one")
    ] = None,
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """List tables and views, or the columns of one."""
    from editcollapse.study.results_folder import place_of
    from storage.queries import describe_tables
    from storage.sharing import folder_to_read

    frame = describe_tables(folder_to_read(place_of(results)))
    if table is None:
        frame = frame.filter(frame["column"].is_null()).select("kind", "name", "n_rows", "comment")
    else:
        names = frame["name"].unique().to_list()
        if table not in names:
            known = nearest_first(table, names)
            raise ResultsError(f"no table or view {table!r}. Known: {known}.")
        frame = frame.filter(name=table).drop("kind", "name", "n_rows")
    if as_json:
        print_rows(frame)
    else:
        print_frame(frame)
    return 0


@commands.command(
    rich_help_panel=_PANEL, epilog=examples("report", "report demo --results /data/demo")
)
def report(
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY", help="name or id; may be left out where there is one study only"
        ),
    ] = "",
    results: ResultsOption = "results",
) -> int:
    """Write a study's HTML report again from the published results."""
    from editcollapse.study.results_folder import place_of
    from reports.page import write_report
    from storage.findings import find_study
    from storage.sharing import folder_to_read

    place = place_of(results)
    path = write_report(place, find_study(folder_to_read(place), study))
    say(f"report: {shown(f'{place.name}/{path}')}")
    return 0


@commands.command(rich_help_panel=_PANEL, epilog=examples("rebuild --results results"))
def rebuild(as_json: JsonOption = False, results: ResultsOption = "results") -> int:
    """Make results.duckdb again from the artifacts alone."""
    from editcollapse.study.results_folder import place_of
    from storage.database import STORE
    from storage.rows import ROWS_FOLDER
    from storage.sharing import rebuild_from

    place = place_of(results)
    rows = place.here / ROWS_FOLDER
    if not place.list(ROWS_FOLDER.as_posix()) and not (place.here / STORE).is_file():
        raise ResultsError(
            f"nothing to rebuild from: there is no {rows}. Name the folder that a study wrote to "
            "with --results."
        )
    found = rebuild_from(place)
    if as_json:
        print_json(found)
        return 0
    for skipped in found.skipped:
        say(f"skipped {skipped.path}: {skipped.reason}")
    say(f"rebuilt from {found.n_files} files: {found.n_rows} rows")
    return 0


@commands.command(rich_help_panel=_PANEL, epilog=examples("gc", "gc --remove --older-than 168"))
def gc(
    remove: Annotated[bool, typer.Option("--remove", help="remove what is listed")] = False,
    older_than: Annotated[
        float,
        typer.Option(min=0, metavar="HOURS", help="leave files that changed in the last HOURS"),
    ] = 24.0,
    unrecorded: Annotated[
        bool,
        typer.Option(
            "--unrecorded",
            help="also units without a row in the database: shards and sums of second moments "
            "that are merged, and whatever a killed study would go on from",
        ),
    ] = False,
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """List, or remove, files of a results folder that nothing refers to."""
    from storage.litter import litter_of, remove_litter

    folder = _folder(results, "gc")
    age = older_than * _HOUR_S
    with litter_of(folder, older_than_s=age, unrecorded=unrecorded) as found:
        gone = remove_litter(folder, found.litter) if remove else found.litter
    if as_json:
        print_json(TidyReport(remove, gone, found.n_fresh, found.unrecorded))
        return 0
    if gone:
        console().print(_table(gone, "removed" if remove else "nothing refers to these"))
    else:
        say(f"nothing to remove from {shown(folder)}")
    if found.n_fresh:
        say(
            f"left: {found.n_fresh} files that may belong to a run: they changed in the last "
            f"{older_than:g} hours, or since the oldest study that runs began"
        )
    if found.unrecorded:
        left = f"{len(found.unrecorded)} files, {_size(_bytes(found.unrecorded))},"
        say(
            f"left: {left} of units without a row in the database: shards and sums of second "
            "moments, or what a killed study needs to go on (--unrecorded)"
        )
    if gone and not remove:
        say(f"remove them with: {PROGRAM} gc --remove, and the same options")
    return 0


@commands.command(
    rich_help_panel=_PANEL, epilog=examples("backup /backups/rome.tar --results results")
)
def backup(
    target: Annotated[Path, typer.Argument(metavar="TARGET.tar", help="a new file")],
    tensors: Annotated[
        bool,
        typer.Option(
            "--tensors",
            help="also updates and second moments: large, and computed again where missing",
        ),
    ] = False,
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """Write the database, rows and records to one tar file, while studies run.

    Exit status 1 where files had to be left out.
    """
    from storage.backup import back_up

    found = back_up(_folder(results, "backup"), target, tensors=tensors)
    if as_json:
        print_json(found)
    else:
        for name in found.left_out:
            say(f"left out, missing or damaged: {name}")
        say(f"backup: {shown(target)}, {found.n_files} files, {_size(found.n_bytes)}")
    return 1 if found.left_out else 0


@commands.command(
    rich_help_panel=_PANEL, epilog=examples("restore /backups/rome.tar --results restored")
)
def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP.tar", help="what backup wrote")],
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """Check a backup and unpack it to a new results folder.

    Exit status 1 where row files are lacking.
    """
    from storage.backup import restore as bring_back

    folder = _folder(results, "restore")
    found = bring_back(source, folder)
    if as_json:
        print_json(found)
    else:
        for skipped in found.skipped:
            say(f"skipped {skipped.path}: {skipped.reason}")
        say(f"restored to {shown(folder)}: {found.n_rows} rows from {found.n_files} files")
    return 1 if found.skipped else 0


def _folder(results: str, command: str) -> Path:
    """The results folder of this machine. Raises ResultsError for one that lies at a URL."""
    from editcollapse.study.results_folder import is_url, place_of

    place = place_of(results)
    if is_url(place.name):
        raise ResultsError(
            f"{command} works on a folder, and {place.name} is a URL. Use what the store "
            "itself has (versions, lifecycle rules), or copy it to a folder first."
        )
    return place.here


def _table(litter: "Sequence[Litter]", title: str) -> Table:
    """Files by kind and reason, with a total."""
    groups: dict[tuple[str, str], list[Litter]] = defaultdict(list)
    for each in litter:
        groups[each.kind, each.reason].append(each)
    table = Table(title=title)
    table.add_column("kind")
    table.add_column("files", justify="right")
    table.add_column("size", justify="right")
    table.add_column("why")
    for (kind, reason), group in sorted(groups.items()):
        table.add_row(kind, str(len(group)), _size(_bytes(group)), reason)
    table.add_section()
    table.add_row("total", str(len(litter)), _size(_bytes(litter)), "")
    return table


def _bytes(litter: "Sequence[Litter]") -> int:
    return sum(each.n_bytes for each in litter)


def _size(n_bytes: float) -> str:
    """Bytes for people, to three figures."""
    for unit in _UNITS[:-1]:
        if n_bytes < _STEP:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= _STEP
    return f"{n_bytes:.3g} {_UNITS[-1]}"
