"""The command line: one application of all commands, and how it ends.

A user's mistake is one sentence on stderr and exit status 2; anything else keeps its traceback.
"""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup

from editcollapse.cli.check import COLLAPSED
from editcollapse.cli.check_model import add_check_model
from editcollapse.cli.console import console, print_line, progress_shown
from editcollapse.cli.fetch_model import add_fetch_model
from editcollapse.cli.mistakes import STOPPED, USER_ERROR, print_mistake, usage_mistake
from editcollapse.errors import EditCollapseError, nearest_first
from editcollapse.study.planned import cached_plans
from flows.cli import (
    anatomy,
    check,
    demo,
    downstream,
    edit,
    export,
    forecast,
    init,
    results,
    study,
    sweep,
    tune,
)
from flows.cli.options import NAME, PROGRAM, examples
from flows.cli.output.console import shown
from flows.observe.compat import stop_temporary_server


class _Commands(TyperGroup):
    """The commands; an unknown one is refused with the nearest names, and Ctrl-C is one line."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a name; None where an option stands there, which Click reports."""
        found = super().get_command(ctx, cmd_name)
        if found is None and not cmd_name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"no command {cmd_name!r}. Known: {nearest_first(cmd_name, self.commands)}.")
        return found

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named, and return its exit status."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            console(to_stderr=True).print("stopped: the same command goes on from here")
            return STOPPED


app = typer.Typer(
    name=NAME,
    cls=_Commands,
    suggest_commands=False,  # the message has them already
    add_completion=PROGRAM == NAME,  # what a shell completes is the name of one program
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "run studies/demo.toml",
        'sql "from collapse_incidence"',
        "check-model openai-community/gpt2-xl",
    ),
)
commands = typer.Typer()
_MODULES = (
    *(demo, init, study, tune, anatomy, forecast, sweep, edit),
    *(check, downstream, results, export),
)
for _commands in _MODULES:
    app.add_typer(_commands.commands)
add_check_model(app)
add_fetch_model(app)
app.add_typer(commands)


def _print_version(value: bool) -> None:  # noqa: FBT001  Typer's callback
    if value:
        from editcollapse import __version__

        print_line(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="show the version and exit"
        ),
    ] = False,
) -> None:
    """Measure how often, where and why single edits collapse a language model."""


@commands.command(rich_help_panel="Operation", epilog=examples("pretrain --output /data/demo"))
def pretrain(
    output: Annotated[Path, typer.Option(metavar="DIR", help="folder for models and data")],
) -> int:
    """Train the demo models again (docs/results.md)."""
    from flows.observe import environment

    output = output.resolve()
    environment.prepare(output)
    with progress_shown("starting Prefect"):
        from demo.train.flow import pretrain_demo_models

        pretrain_demo_models(str(output))
    print_line(f"demo models and data: {shown(output)}")
    return 0


@commands.command(
    rich_help_panel="Operation",
    epilog=examples("deploy", "deploy --results /data/results", "deploy --on kubernetes"),
)
def deploy(
    on: Annotated[
        Literal["process", "docker", "kubernetes"],
        typer.Option(help="what the worker runs flows in: processes of its own machine, or these"),
    ] = "process",
    results: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="results folder, or URL, of the deployments (default: results; in containers "
            "/data/results)",
        ),
    ] = None,
    notify: Annotated[
        str | None,
        typer.Option(
            metavar="BLOCK",
            help="notification block of the server, such as slack-webhook/NAME, that tells of "
            "failed runs and collapses",
        ),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            metavar="BLOCK",
            help="webhook block of the server, webhook/NAME, that is called with the numbers of "
            "each collapsed or refused edit and of each finished study",
        ),
    ] = None,
) -> int:
    """Register the deployments of prefect.yaml, their work pool, and the rule for dead runs."""
    from flows.observe import environment

    if environment.prepare_for_server() is None:
        os.environ["PREFECT_API_URL"] = "http://127.0.0.1:4200/api"  # of make server
    from flows.deploy.register import deploy_all, read_deployment_file

    for line in deploy_all(read_deployment_file(on), results, notify=notify, webhook=webhook):
        print_line(line)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: what follows the program's name; those of this process where left out.
    """
    try:
        with cached_plans():
            status: int | None = typer.main.get_command(app).main(
                args=arguments, prog_name=PROGRAM, standalone_mode=False
            )
    except typer.TyperException as error:  # the command line is none
        print_mistake(usage_mistake(error, PROGRAM))
        return USER_ERROR
    except EditCollapseError as error:
        print_mistake(str(error))
        return USER_ERROR
    return status or 0


def run() -> NoReturn:
    """Run the command of this process to its end."""
    _leave(main())


def _leave(status: int) -> NoReturn:
    """End the process; DuckDB's binding prints a page of leak notes where Python unwinds."""
    if status in {USER_ERROR, edit.REFUSED, COLLAPSED}:  # the last line says what to do, or why not
        logging.disable()
        logging.raiseExceptions = False
    stop_temporary_server()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
