"""Commands that keep a results folder in order: tidy up, back up, restore."""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from editcollapse.errors import ResultsError
from editcollapse.study.results_folder import is_url, place_of
from flows.terminal import console, shown

if TYPE_CHECKING:
    from storage.garbage import Garbage

_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000


def gc(options: argparse.Namespace) -> int:
    """List tensors and drafts by kind and age; with ``--remove`` remove them."""
    from storage.garbage import KINDS, find_garbage, remove_garbage

    results = _folder(options)
    screen = console()
    kinds = tuple(options.kind or KINDS)
    found = find_garbage(results, kinds, older_than_s=options.older_than)
    gone = remove_garbage(results, found) if options.remove else found
    if not gone:
        screen.print(f"nothing to remove from {shown(results)}")
        return 0
    screen.print(_table(gone, "removed" if options.remove else "written and last used before then"))
    if not options.remove:
        screen.print("remove them with: python -m flows gc --remove, and the same options")
        screen.print("what a study needs of them it computes again")
    return 0


def backup(options: argparse.Namespace) -> int:
    """Write a backup; exit status 1 where files had to be left out."""
    from storage.archive import back_up

    report = back_up(_folder(options), options.target, tensors=options.tensors)
    screen = console()
    for name in report.left_out:
        screen.print(f"left out, missing or damaged: {name}", markup=False, soft_wrap=True)
    size = _size(report.n_bytes)
    screen.print(
        f"backup: {shown(options.target)}, {report.n_files} files, {size}",
        markup=False,
        soft_wrap=True,
    )
    return 1 if report.left_out else 0


def restore(options: argparse.Namespace) -> int:
    """Bring a backup back; exit status 1 where row files are lacking."""
    from storage.archive import restore as bring_back

    results = _folder(options)
    report = bring_back(options.source, results)
    screen = console()
    for skipped in report.skipped:
        screen.print(f"skipped {skipped.path}: {skipped.reason}", markup=False, soft_wrap=True)
    screen.print(
        f"restored to {shown(results)}: {report.n_rows} rows from {report.n_files} files",
        markup=False,
        soft_wrap=True,
    )
    return 1 if report.skipped else 0


def _folder(options: argparse.Namespace) -> Path:
    """Return the results folder. Raises ResultsError for one that lies at a URL."""
    place = place_of(options.results)
    if is_url(place.name):
        raise ResultsError(
            f"{options.command} works on a folder, and {place.name} is a URL. Use what the store "
            "itself has (versions, lifecycle rules), or copy it to a folder first."
        )
    return place.here


def _table(garbage: "Sequence[Garbage]", title: str) -> Table:
    """Return files by kind, with a total."""
    groups: dict[str, list[Garbage]] = defaultdict(list)
    for each in garbage:
        groups[each.kind].append(each)
    table = Table(title=title)
    table.add_column("kind")
    table.add_column("files", justify="right")
    table.add_column("size", justify="right")
    for kind, group in sorted(groups.items()):
        table.add_row(kind, str(len(group)), _size(sum(each.n_bytes for each in group)))
    table.add_section()
    table.add_row("total", str(len(garbage)), _size(sum(each.n_bytes for each in garbage)))
    return table


def _size(n_bytes: float) -> str:
    """Return bytes for people, to three figures."""
    for unit in _UNITS[:-1]:
        if n_bytes < _STEP:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= _STEP
    return f"{n_bytes:.3g} {_UNITS[-1]}"
