"""The command ``editcollapse``: in a checkout the project's own, elsewhere what the wheel can do.

A user's mistake is one sentence on standard error and exit status 2; anything else keeps its
traceback.
"""

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from editcollapse import __version__
from editcollapse.cli.check import add_check
from editcollapse.cli.check_model import add_check_model
from editcollapse.cli.edit import add_edit
from editcollapse.cli.fetch_model import add_fetch_model
from editcollapse.cli.forecast import add_forecast
from editcollapse.cli.mistakes import STOPPED, USER_ERROR, print_mistake, usage_mistake
from editcollapse.errors import EditCollapseError

NAME = "editcollapse"
_FLOWS = "flows.cli.main"
_ARGUMENT = re.compile(r"`([a-z][a-z_]*)`")

app = typer.Typer(
    name=NAME,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run() -> None:
    """Entry point of the command ``editcollapse``."""
    project = checkout_command(Path(__file__).parents[3])
    if project is None:
        sys.exit(main())
    project()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of the wheel; return its exit status.

    Args:
        arguments: what follows the program's name; those of this process where left out.
    """
    try:
        status: int | None = typer.main.get_command(app).main(
            args=arguments, prog_name=NAME, standalone_mode=False
        )
    except typer.TyperException as error:  # the command line is none
        print_mistake(usage_mistake(error, NAME))
        return USER_ERROR
    except EditCollapseError as error:
        print_mistake(in_flags(str(error)))
        return USER_ERROR
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("stopped\n")
        return STOPPED
    return status or 0


def in_flags(message: str) -> str:
    """Message of the library in the command's words: `start_token` is --start-token."""
    return _ARGUMENT.sub(lambda found: f"--{found[1].replace('_', '-')}", message)


def checkout_command(root: Path) -> Callable[[], None] | None:
    """Return the entry point of the project's own command; None outside its checkout.

    Args:
        root: folder that holds ``src/editcollapse`` in a checkout. A foreign package that is
            called flows is not meant.
    """
    expected = root / "flows" / "cli" / "main.py"
    if not expected.is_file():
        return None
    try:
        found = importlib.util.find_spec(_FLOWS)
    except ModuleNotFoundError:
        return None
    if found is None or found.origin is None or Path(found.origin).resolve() != expected.resolve():
        return None
    project: Callable[[], None] = importlib.import_module(_FLOWS).run
    return project


def _print_version(wanted: bool) -> None:  # noqa: FBT001  Typer gives the option's value
    if wanted:
        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def editcollapse(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and leave.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Will this edit break the model? Forecast, make and measure single edits."""


add_check_model(app)
add_fetch_model(app)
add_forecast(app)
add_edit(app)
add_check(app)
