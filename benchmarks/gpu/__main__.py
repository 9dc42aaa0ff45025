"""Measure and prove everything on a GPU: ``make gpu``, or ``python -m benchmarks.gpu --help``.

Needs torch and transformers, pytest for the tests, and nothing else of the project's requirements:
copy the checkout to the machine and set PYTHONPATH to its ``src``. Weights are random and built on
the device, so nothing is downloaded. Times depend on sizes, not on what a model knows, but for
edits that stop early, which random models' do not.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.documents import Marks
from benchmarks.gpu.figures import lines, merged, read_json
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.runner import run_parts
from editcollapse.errors import EditCollapseError, StudyError
from editcollapse.runtime.devices import best_device

MARKS = Marks.of("gpu")
"""Where ``--markdown`` writes."""
_MINUTES = 7.5
_JSON = Path("build/gpu.json")
_EXAMPLES = """examples:
  make gpu
  python -m benchmarks.gpu --only tests gpt2-xl --json gpt2-xl.json
  python -m benchmarks.gpu --rehearse
  python -m benchmarks.gpu --from build/gpu.json --markdown docs/results.md
"""
_FROM = "files of earlier runs on one machine, no run; the last one's figure counts"
_USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status: 1 where a part did not end well."""
    words = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(words)
    try:
        if given.markdown is not None:
            MARKS.check(given.markdown)
        if given.read is not None:
            found = merged([read_json(path) for path in given.read])
        else:
            found = run_parts(
                [part for part in PARTS if not given.only or part.name in given.only],
                _device(given.device, rehearse=given.rehearse),
                given.minutes,
                given.json,
                rehearse=given.rehearse,
                command=shlex.join(["python", "-m", "benchmarks.gpu", *words]),
            )
    except EditCollapseError as error:
        print(f"error: {error}", file=sys.stderr)
        return _USER_ERROR
    print("\n".join(lines(found)))
    if given.markdown is not None:
        MARKS.write(given.markdown, "\n".join(lines(found)) + "\n")
    return 0 if found.is_well else 1


def _device(asked: str, *, rehearse: bool) -> torch.device:
    """Return the device to measure.

    Raises:
        StudyError: there is no such device, or none but the CPU.
    """
    if rehearse:
        return torch.device("cpu")
    device = best_device(asked)
    if device.type == "cpu":
        raise StudyError(
            "no accelerator was found here, only the CPU. Run it where there is one, or with "
            "--rehearse: tiny shapes on the CPU, to see that every part stands."
        )
    return torch.device(device.type, device.index or 0)


def _parser() -> argparse.ArgumentParser:
    parts = "\n".join(f"  {part.name:<12} {part.what}" for part in PARTS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Test and measure everything on one accelerator, part by part: one table, "
        "one JSON file. A part that fails does not stop the others.",
        epilog=f"parts:\n{parts}\n\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [part.name for part in PARTS]
    add = parser.add_argument
    add("--only", nargs="+", choices=names, metavar="PART", help="these parts alone")
    add("--minutes", type=_positive, default=_MINUTES, help=f"for all parts (default: {_MINUTES})")
    add("--json", type=Path, default=_JSON, metavar="PATH", help=f"default: {_JSON}")
    add("--device", default="auto", help="a torch device (default: the accelerator)")
    add("--rehearse", action="store_true", help="tiny shapes on the CPU: does every part stand?")
    add("--from", dest="read", nargs="+", type=Path, metavar="PATH", help=_FROM)
    add("--markdown", type=Path, metavar="PATH", help="write the table between its marks")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


if __name__ == "__main__":
    sys.exit(main())
