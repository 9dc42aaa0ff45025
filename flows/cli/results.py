"""Commands on a results folder: ask it, report on it, hand it on, tidy it up, back it up."""

import dataclasses
import re
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from editcollapse.cli.console import console, print_json, print_line, print_text, write_out
from editcollapse.cli.tables import Column, print_table
from editcollapse.errors import ResultsError, nearest_first
from editcollapse.visible import visible
from flows.cli.options import (
    PROGRAM,
    JsonOption,
    MeasureOption,
    RatioOption,
    ResultsOption,
    ThresholdOption,
    examples,
    rule_of,
)
from flows.cli.output.answers import digests_in, print_frame, print_rows
from flows.cli.output.console import shown

if TYPE_CHECKING:
    from storage.dataset import DatasetTable
    from storage.garbage import Garbage

_AGE = re.compile(r"(\d+(?:\.\d+)?)([dh])")
_SECONDS = {"d": 86_400.0, "h": 3_600.0}
_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000
_PANEL = "Results"
_LISTS_STUDIES = 'editcollapse sql "select name, study_id from studies"'

commands = typer.Typer()


@dataclasses.dataclass(frozen=True, slots=True)
class TidyReport:
    """Result of ``gc``, for ``--json``."""

    removed: bool
    """Whether the files are gone."""
    files: "tuple[Garbage, ...]"


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
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="DuckDB SQL; of several statements each answer")
    ],
    csv: Annotated[bool, typer.Option("--csv", help="print CSV instead of a table")] = False,
    all_columns: Annotated[
        bool,
        typer.Option("--all-columns", help="show ids and digests that the query does not name"),
    ] = False,
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """Ask the published results; read-only.

    An answer that is wider than the terminal is printed as records, a line a value.
    """
    from editcollapse.study.results_folder import results_at
    from storage.ask import ask_each
    from storage.publish import folder_to_read

    if csv and as_json:
        raise ResultsError("--csv and --json were given; an answer is either. Leave one out.")
    answers = ask_each(folder_to_read(results_at(results)), query)
    if (csv or as_json) and len(answers) > 1:
        raise ResultsError(
            f"the query has {len(answers)} statements, and {'--csv' if csv else '--json'} prints "
            "one answer. Ask one at a time, or without it."
        )
    for number, answer in enumerate(answers):
        if csv:
            write_out(answer.frame.write_csv())
        elif as_json:
            print_rows(answer.frame)
        else:
            if number:
                print_line("")
            print_frame(answer.frame, () if all_columns else digests_in(answer.frame, answer.sql))
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
    from editcollapse.study.results_folder import results_at
    from storage.ask import describe_tables
    from storage.publish import folder_to_read

    frame = describe_tables(folder_to_read(results_at(results)))
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
    elif table is None:
        print_frame(frame)
    else:
        is_own = frame["column"].is_null()
        print_text(frame.filter(is_own)["comment"][0])
        print_frame(frame.filter(~is_own))
    return 0


@commands.command(
    rich_help_panel=_PANEL, epilog=examples("report", "report demo --results /data/demo --ratio 5")
)
def report(
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY", help="name or id (default: the newest; so with a name of several)"
        ),
    ] = "",
    threshold: ThresholdOption = None,
    ratio: RatioOption = None,
    measure: MeasureOption = None,
    results: ResultsOption = "results",
) -> int:
    """Write a study's HTML report again from the published results."""
    from editcollapse.study.results_folder import results_at
    from reports.page import write_report
    from storage.ask import look_up_study, study_rule
    from storage.publish import folder_to_read

    folder = results_at(results)
    readable = folder_to_read(folder)
    found = look_up_study(readable, study)
    if found.n_others:
        print_line(
            f"study:  {visible(found.name)}, {found.study_id}, the newest of {found.n_others + 1}; "
            f"{_LISTS_STUDIES} lists them"
        )
    rule = rule_of(study_rule(readable, found.study_id), threshold, ratio, measure)
    path = write_report(folder, found.study_id, rule)
    print_line(f"report: {shown(f'{folder.name}/{path}')}")
    return 0


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetReport:
    """Result of ``dataset``, for ``--json``."""

    study_id: str
    folder: str
    address: str | None
    """Where it is on the hub; None where it was not pushed."""
    tables: "tuple[DatasetTable, ...]"


@commands.command(
    rich_help_panel=_PANEL,
    epilog=examples(
        "dataset demo demo-rows",
        "dataset demo demo-rows --push somebody/gpt2-collapse",
        "dataset demo demo-rows --push somebody/gpt2-collapse --public --license mit",
    ),
)
def dataset(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="name or id (of a name of several the newest)")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="a new folder")],
    push: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME",
            help="upload the folder to this dataset of the Hugging Face hub as well, as whoever "
            "is logged in there (hf auth login); a new one is private",
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="with --push: let anyone read a new dataset")
    ] = False,
    licence: Annotated[
        str,
        typer.Option("--license", metavar="ID", help="licence on the card, as the hub names it"),
    ] = "unknown",
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """Write a study's rows as a dataset: Parquet files, one a table, and a card.

    DuckDB reads it by its path, and from the hub as hf://datasets/OWNER/NAME/TABLE/rows.parquet.
    """
    from editcollapse.study.results_folder import results_at
    from storage.ask import look_up_study
    from storage.hub import check_repo, push_dataset
    from storage.publish import folder_to_read

    if public and push is None:
        raise ResultsError("--public is about a dataset of the hub. Name one with --push.")
    if push is not None:
        check_repo(push)
    readable = folder_to_read(results_at(results))
    study_id = look_up_study(readable, study).study_id
    tables = _dataset(readable, study_id, folder, push, licence)
    address = None
    if push is not None:
        address = push_dataset(folder, push, is_public=public)
    if as_json:
        print_json(DatasetReport(study_id, str(folder), address, tables))
        return 0
    n_rows = sum(table.n_rows for table in tables)
    print_line(f"dataset: {shown(folder)}, {len(tables)} tables, {n_rows} rows")
    if address is not None:
        print_line(f"pushed:  {visible(address)}")
    return 0


def _dataset(
    readable: Path, study_id: str, folder: Path, repo: str | None, licence: str
) -> "tuple[DatasetTable, ...]":
    """Write rows and card to a new folder, whole or not at all; return what was written."""
    from reports.dataset_card import dataset_card
    from reports.headline import headline
    from storage.ask import findings
    from storage.dataset import write_dataset

    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ResultsError(f"{folder} is there and not empty. Name a new folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as draft:
            whole = Path(draft) / "whole"
            tables = write_dataset(readable, study_id, whole)
            found = findings(readable, study_id)
            card = dataset_card(found, headline(found), tables, repo, licence)
            (whole / "README.md").write_text(card, encoding="utf-8")
            whole.replace(folder)
    except OSError as error:
        raise ResultsError(
            f"cannot write {folder}: {error.strerror}. Free space or choose another folder."
        ) from error
    return tables


@commands.command(rich_help_panel=_PANEL, epilog=examples("rebuild --results results"))
def rebuild(as_json: JsonOption = False, results: ResultsOption = "results") -> int:
    """Make results.duckdb again from the row files."""
    from editcollapse.study.results_folder import results_at
    from storage.ingest import ROWS_FOLDER
    from storage.publish import rebuild as build

    folder = results_at(results)
    rows = folder.here / ROWS_FOLDER
    if not folder.list(ROWS_FOLDER.as_posix()):
        raise ResultsError(
            f"nothing to rebuild from: there is no {rows}. Name the folder that a study wrote to "
            "with --results."
        )
    found = build(folder)
    if as_json:
        print_json(found)
        return 0
    for skipped in found.skipped:
        print_line(f"skipped {skipped.path}: {skipped.reason}")
    print_line(f"rebuilt from {found.n_files} files: {found.n_rows} rows")
    return 0


def _age(text: str) -> float:
    """An age in seconds, given in days or hours."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no age: write 7d or 36h")
    return float(found[1]) * _SECONDS[found[2]]


@commands.command(
    rich_help_panel=_PANEL, epilog=examples("gc", "gc --kind sums --older-than 7d --remove")
)
def gc(
    remove: Annotated[bool, typer.Option("--remove", help="remove what is listed")] = False,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="corpora, directions, moments, probes, sums or updates (computed again where they "
            "are missing), or drafts (half written by killed runs); may be repeated (default: all)",
        ),
    ] = None,
    older_than: Annotated[
        str,
        typer.Option(
            metavar="AGE", help="leave what was written or used in this time, such as 7d or 36h"
        ),
    ] = "1d",
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """List, or remove, tensors of a results folder that nobody has used for some time."""
    from storage.garbage import KINDS, find_garbage, remove_garbage

    age = _age(older_than)
    folder = _folder(results, "gc")
    found = find_garbage(folder, tuple(kind or KINDS), older_than_s=age)
    gone = remove_garbage(folder, found) if remove else found
    if as_json:
        print_json(TidyReport(remove, gone))
    elif not gone:
        print_text(f"nothing to remove from {shown(folder)}")
    else:
        title = "removed" if remove else "written and last used before then"
        _print_garbage(gone, title)
        if not remove:
            print_line(f"remove them with: {PROGRAM} gc --remove, and the same options")
            print_line("what a study needs of them it computes again")
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
    """Write rows and manifests to one tar file, while studies run.

    Exit status 1 where files had to be left out.
    """
    from storage.archive import back_up

    found = back_up(_folder(results, "backup"), target, tensors=tensors)
    if as_json:
        print_json(found)
    else:
        for name in found.left_out:
            print_line(f"left out, missing or damaged: {name}")
        print_line(f"backup: {shown(target)}, {found.n_files} files, {_size(found.n_bytes)}")
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
    from storage.archive import restore as bring_back

    folder = _folder(results, "restore")
    found = bring_back(source, folder)
    if as_json:
        print_json(found)
    else:
        for skipped in found.skipped:
            print_line(f"skipped {skipped.path}: {skipped.reason}")
        print_line(f"restored to {shown(folder)}: {found.n_rows} rows from {found.n_files} files")
    return 1 if found.skipped else 0


def _folder(results: str, command: str) -> Path:
    """The results folder of this machine. Raises ResultsError for one that lies at a URL."""
    from editcollapse.study.results_folder import is_url, results_at

    folder = results_at(results)
    if is_url(folder.name):
        raise ResultsError(
            f"{command} works on a folder, and {folder.name} is a URL. Use what the store "
            "itself has (versions, lifecycle rules), or copy it to a folder first."
        )
    return folder.here


def _print_garbage(garbage: "Sequence[Garbage]", title: str) -> None:
    """Print files by kind, with a total."""
    groups: dict[str, list[Garbage]] = defaultdict(list)
    for each in garbage:
        groups[each.kind].append(each)
    counted = [*sorted(groups.items()), ("total", garbage)]
    rows = [
        [Text(kind), Text(str(len(group))), Text(_size(sum(each.n_bytes for each in group)))]
        for kind, group in counted
    ]
    print_text(title)
    columns = [Column("kind"), Column("files", is_number=True), Column("size", is_number=True)]
    print_table(columns, rows, console())


def _size(n_bytes: float) -> str:
    """Bytes for people, to three figures."""
    for unit in _UNITS[:-1]:
        if n_bytes < _STEP:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= _STEP
    return f"{n_bytes:.3g} {_UNITS[-1]}"
