"""The command line: ``python -m benchmarks``, which ``make bench`` runs."""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.choices import DEFAULT_MODELS, WORKS
from benchmarks.report import MARKS, disagreements, markdown, write_json, write_markdown
from editcollapse.errors import EditCollapseError

_EXAMPLES = """examples:
  python -m benchmarks --quick                          a smoke test, under two minutes
  python -m benchmarks --models demo                    the demo model in full
  python -m benchmarks --only edits --models gpt2-small --edits 8 --repeats 3
  python -m benchmarks --only overhead --models gpt2-small --edits 8 --steps 2
  python -m benchmarks --only sequences --models demo/models/gpt2-induced
  python -m benchmarks --models models/smollm2-135m-instruct --edits 8 --repeats 1
  python -m benchmarks --markdown docs/results.md --json benchmarks.json --profile
"""
_MODELS = f"or paths of pretrained models; default: {' '.join(DEFAULT_MODELS)}"
_USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return 1 where the two sides disagree, 2 at a user's mistake."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TQDM_DISABLE", "1")
    from benchmarks.schedule import Order, run

    command = shlex.join(["python", "-m", "benchmarks", *(arguments or sys.argv[1:])])
    try:
        if options.markdown is not None:
            MARKS.check(options.markdown)
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as temporary:
            order = Order(
                workspace=options.workspace or Path(temporary),
                quick=options.quick,
                only=options.only and tuple(options.only),
                models=options.models and tuple(options.models),
                repeats=options.repeats,
                edits=options.edits,
                steps=options.steps,
                tokenizer=options.tokenizer,
                profile=options.profile,
            )
            found = run(order, command)
    except EditCollapseError as error:
        print(f"error: {error}", file=sys.stderr)
        return _USER_ERROR
    print(markdown(found))
    if options.json is not None:
        write_json(found, options.json)
    if options.markdown is not None:
        write_markdown(found, options.markdown)
    for sentence in (apart := disagreements(found)):
        print(f"the two sides disagree: {sentence}", file=sys.stderr)
    return 1 if apart else 0


def _parser() -> argparse.ArgumentParser:
    works = "\n".join(f"  {name:13}{text}" for name, text in WORKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the published procedure and ours, in turn, on this machine.",
        epilog=f"works:\n{works}\n\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="the demo model, few edits, one repeat")
    add("--only", nargs="+", choices=list(WORKS), metavar="WORK", help="these works only")
    add("--models", nargs="+", metavar="MODEL", help=_MODELS)
    add("--repeats", type=_positive, help="of each side (default: 5)")
    add("--edits", type=_positive, help="edits in our batch (default: 64 for demo, 16 else)")
    add("--steps", type=_positive, help="passes of v*, or epochs, at most (default: as published)")
    add("--tokenizer", type=Path, metavar="FOLDER", help="for random models, instead of words")
    add("--workspace", type=Path, metavar="FOLDER", help="keep models and results there")
    add("--profile", action="store_true", help="add the operators of one of our batches")
    add("--json", type=Path, metavar="PATH", help="write everything there")
    add("--markdown", type=Path, metavar="PATH", help="write the tables between its markers")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


if __name__ == "__main__":
    sys.exit(main())
