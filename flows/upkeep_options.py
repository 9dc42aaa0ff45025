"""The command line's words for the commands that keep a results folder in order."""

import argparse
from pathlib import Path

from flows.option_parts import add_command, add_results


def add_upkeep(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that keep a results folder in order (docs/upkeep.md)."""
    gc = add_command(
        commands,
        "gc",
        "list, or remove, files of a results folder that nothing refers to",
        "python -m flows gc\n  python -m flows gc --remove --older-than 168",
    )
    gc.add_argument("--remove", action="store_true", help="remove what is listed")
    gc.add_argument(
        "--older-than",
        type=_hours,
        default=24.0,
        metavar="HOURS",
        help="leave files that changed in the last HOURS (default: 24)",
    )
    gc.add_argument(
        "--unrecorded",
        action="store_true",
        help="also units without a row in the database: shards and sums of second moments that "
        "are merged, and whatever a killed study would go on from",
    )
    add_results(gc)

    backup = add_command(
        commands,
        "backup",
        "write the database, rows and records to one tar file, while studies run",
        "python -m flows backup /backups/rome.tar --results results",
    )
    backup.add_argument("target", type=Path, metavar="TARGET.tar", help="a new file")
    backup.add_argument(
        "--tensors",
        action="store_true",
        help="also updates and second moments: large, and computed again where missing",
    )
    add_results(backup)

    restore = add_command(
        commands,
        "restore",
        "check a backup and unpack it to a new results folder",
        "python -m flows restore /backups/rome.tar --results restored",
    )
    restore.add_argument("source", type=Path, metavar="BACKUP.tar", help="what backup wrote")
    add_results(restore)


def _hours(text: str) -> float:
    """Return a number of hours that is not negative."""
    try:
        hours = float(text)
    except ValueError:
        hours = -1.0
    if not hours >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours")
    return hours
