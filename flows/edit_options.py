"""The command line's words for one edit that is made."""

import argparse
import typing

from editcollapse.catalog.methods import METHODS
from editcollapse.config.spec import ActsAt, Policy
from flows.forecast_options import add_layer, add_one_edit
from flows.option_parts import add_command, add_results

REFUSED = 3
"""Exit status where the guard has refused the edit."""


def add_edit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command ``edit``."""
    edit = add_command(
        commands,
        "edit",
        "make one edit and measure what it does to the model; a guard may refuse it",
        'python -m flows edit --model demo/models/gpt2-induced --prompt "{} was born in" \\\n'
        "      --subject Pugis --target Jorvale --covariance demo/corpus.txt --guard prefix\n\n"
        "exit status: 0 an edit was made, 3 the guard refused it, 2 a mistake",
    )
    one = edit.add_argument_group("the edit")
    add_one_edit(one, is_required=True)
    add_layer(one)
    one.add_argument(
        "--method", default="rome", choices=tuple(METHODS), help="who makes it (default: rome)"
    )
    guard = edit.add_argument_group("the guard")
    guard.add_argument(
        "--guard",
        choices=typing.get_args(Policy),
        help="what to do with an edit that the forecast warns of: refuse it, let another method "
        "make it, or put a text before its prompt (default: it is made as asked)",
    )
    guard.add_argument(
        "--acts-at",
        choices=typing.get_args(ActsAt),
        help="verdict from which on the guard acts (default: at risk)",
    )
    edit.add_argument(
        "--texts",
        metavar="FILE",
        help="perplexity texts: JSON, JSONL or plain text, one a line (default: texts.jsonl beside "
        "the folder models that the model lies in, as the demo models have it)",
    )
    edit.add_argument("--json", action="store_true", help="print JSON instead of sentences")
    add_results(edit)
