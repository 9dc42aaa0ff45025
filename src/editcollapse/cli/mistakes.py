"""How a command ends that is not done: exit statuses, and a user's mistake in one sentence."""

import typer

USER_ERROR = 2
"""Exit status of a user's mistake."""
STOPPED = 130
"""Exit status of a command that was stopped before its end."""


def print_mistake(text: str) -> None:
    """Print a user's mistake on standard error: one sentence, no markup, no traceback."""
    from editcollapse.cli.console import console

    console(to_stderr=True).print(f"error: {text}", markup=False, soft_wrap=True)


def usage_mistake(error: typer.TyperException, program: str) -> str:
    """Say what is wrong with a command line, and whose help to ask for.

    Args:
        error: of the parser.
        program: what the user has typed before the command's name.
    """
    context = getattr(error, "ctx", None)
    path = program if context is None else context.command_path
    words = error.format_message().replace("Value error, ", "").rstrip(".")
    return f"{words}. Try {path} --help."
