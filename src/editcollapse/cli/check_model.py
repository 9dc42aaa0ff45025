"""The command ``check-model``: can this model be edited exactly?"""

import os
from typing import Annotated

import typer

from editcollapse.cli import options
from editcollapse.cli.options import examples

NOT_PASSED = 1
"""Exit status where a check has failed."""


def add_check_model(app: typer.Typer) -> None:
    """Add the command to an app.

    Args:
        app: the wheel's, or the checkout's.
    """
    app.command(
        "check-model",
        epilog=examples(
            "editcollapse check-model demo/models/gpt2-induced",
            "editcollapse check-model openai-community/gpt2 --layer 4 --json",
            "Exit status: 0 all checks passed, 1 one failed, 2 a mistake.",
        ),
    )(check_model)


def check_model(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Local folder, .gguf file or Hugging Face hub id."),
    ],
    *,
    layer: Annotated[
        int | None, typer.Option(metavar="N", help="Block to check; every one where left out.")
    ] = None,
    dtype: options.Dtype = "float32",
    start_token: options.StartToken = "tokenizer",
    revision: options.Revision = None,
    as_json: options.AsJson = False,
) -> None:
    """Verify on a model's weights that it can be edited exactly, and state its facts."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from editcollapse.api import load_model
    from editcollapse.cli.console import print_json, print_line, progress_shown
    from editcollapse.rome.check import check_model as verify

    with progress_shown("starting torch"):
        loaded = load_model(model, revision=revision, dtype=dtype, start_token=start_token)
        found = verify(loaded, layer)
    if as_json:
        print_json(found)
    else:
        for line in found.lines():
            print_line(line)
    if not found.passed:
        raise typer.Exit(NOT_PASSED)
