"""The command line's words for the commands that keep a results folder in order."""

import argparse
import re
from pathlib import Path

from flows.option_parts import add_command, add_results

_AGE = re.compile(r"(\d+(?:\.\d+)?)([dh])")
_SECONDS = {"d": 86_400.0, "h": 3_600.0}


def add_upkeep(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that keep a results folder in order (docs/upkeep.md)."""
    gc = add_command(
        commands,
        "gc",
        "list, or remove, tensors of a results folder that nobody has used for some time",
        "python -m flows gc\n  python -m flows gc --kind sums --older-than 7d --remove",
    )
    gc.add_argument("--remove", action="store_true", help="remove what is listed")
    gc.add_argument(
        "--kind",
        action="append",
        metavar="KIND",
        help="corpora, directions, moments, probes, sums or updates (computed again where they are "
        "missing), or drafts (half written by killed runs); may be repeated (default: all)",
    )
    gc.add_argument(
        "--older-than",
        type=_age,
        default="1d",
        metavar="AGE",
        help="leave what was written or used in this time, such as 7d or 36h (default: 1d)",
    )
    add_results(gc)

    backup = add_command(
        commands,
        "backup",
        "write rows and records to one tar file, while studies run",
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


def _age(text: str) -> float:
    """Return an age in seconds, given in days or hours."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: write 7d or 36h")
    return float(found[1]) * _SECONDS[found[2]]
