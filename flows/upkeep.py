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
    from storage.litter import Litter

_HOUR_S = 3600.0
_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000


def gc(options: argparse.Namespace) -> int:
    """List what nothing refers to; with ``--remove`` remove it."""
    from storage.litter import litter_of, remove_litter

    results = _folder(options)
    screen = console()
    with litter_of(
        results, older_than_s=options.older_than * _HOUR_S, unrecorded=options.unrecorded
    ) as found:
        gone = remove_litter(results, found.litter) if options.remove else found.litter
    if gone:
        screen.print(_table(gone, "removed" if options.remove else "nothing refers to these"))
    else:
        screen.print(f"nothing to remove from {shown(results)}")
    if found.n_fresh:
        screen.print(
            f"left: {found.n_fresh} files that may belong to a run: they changed in the last "
            f"{options.older_than:g} hours, or since the oldest study that runs began"
        )
    if found.unrecorded:
        screen.print(
            f"left: {_sum(found.unrecorded)} of units without a row in the database: shards and "
            "sums of second moments, or what a killed study needs to go on (--unrecorded)"
        )
    if gone and not options.remove:
        screen.print("remove them with: python -m flows gc --remove, and the same options")
    return 0


def backup(options: argparse.Namespace) -> int:
    """Write a backup; exit status 1 where files had to be left out."""
    from storage.backup import back_up

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
    from storage.backup import restore as bring_back

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


def _table(litter: "Sequence[Litter]", title: str) -> Table:
    """Return files by kind and reason, with a total."""
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


def _sum(litter: "Sequence[Litter]") -> str:
    return f"{len(litter)} files, {_size(_bytes(litter))},"


def _bytes(litter: "Sequence[Litter]") -> int:
    return sum(each.n_bytes for each in litter)


def _size(n_bytes: float) -> str:
    """Return bytes for people, to three figures."""
    for unit in _UNITS[:-1]:
        if n_bytes < _STEP:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= _STEP
    return f"{n_bytes:.3g} {_UNITS[-1]}"
