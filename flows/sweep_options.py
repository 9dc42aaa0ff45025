"""The command line's words for layer sweeps."""

import argparse
from pathlib import Path

from editcollapse.study.sweep import ALL
from flows.forecast_options import add_one_edit
from flows.option_parts import add_command, add_results


def add_sweep(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command ``sweep``."""
    sweep = add_command(
        commands,
        "sweep",
        "say at which layers edits would collapse a model, from one pass over all layers",
        "python -m flows sweep studies/demo.toml\n"
        "  python -m flows sweep studies/fall_of_rome.toml --layers 0-11,20 --json\n"
        '  python -m flows sweep --model demo/models/gpt2-induced --prompt "{} was born in" \\\n'
        "      --subject Pugis --target Jorvale --covariance demo/corpus.txt --tokens 20000",
    )
    sweep.add_argument(
        "study", type=Path, nargs="?", metavar="STUDY.toml", help="sweep all edits of a study"
    )
    sweep.add_argument(
        "--layers",
        default=ALL,
        metavar="LAYERS",
        help="layers and ranges, such as 0-11,20 (default: all)",
    )
    add_one_edit(sweep.add_argument_group("one edit, in place of a study"), is_required=False)
    sweep.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add_results(sweep)
