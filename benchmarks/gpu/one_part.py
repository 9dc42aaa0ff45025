"""One part in a process of its own, as ``runner`` starts it."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu.clock import Clock
from benchmarks.gpu.figures import FigureFile
from benchmarks.gpu.parts import PARTS, PartFailedError, Setting


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a part; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.one_part")
    add = parser.add_argument
    add("part", choices=[part.name for part in PARTS])
    add("--until", type=float, required=True, help="seconds since 1970")
    add("--figures", type=Path, required=True)
    add("--device", type=torch.device, required=True)
    add("--rehearse", action="store_true")
    given = parser.parse_args(arguments)
    (part,) = (part for part in PARTS if part.name == given.part)
    clock = Clock(given.until - time.time())
    try:
        part.run(Setting(given.device, clock, FigureFile(given.figures), given.rehearse))
    except PartFailedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
