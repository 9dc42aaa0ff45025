"""What the commands of the command line have in common."""

import argparse


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    examples: str,
) -> argparse.ArgumentParser:
    """Add one command with its examples."""
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n  {examples}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_results(command: argparse.ArgumentParser) -> None:
    """Add the option that names the results folder."""
    command.add_argument(
        "--results",
        default="results",
        metavar="DIR",
        help="results folder, or a URL such as s3://bucket/folder; everything a study writes lies "
        "below it (default: results)",
    )


def add_rule(command: argparse.ArgumentParser) -> None:
    """Add the options that say when an edit counts as a collapse."""
    command.add_argument(
        "--threshold",
        type=float,
        default=1000.0,
        metavar="X",
        help="an edit has collapsed where perplexity is above this (default: 1000)",
    )
    command.add_argument(
        "--ratio",
        type=float,
        default=10.0,
        metavar="X",
        help="or above so many times the unedited model's (default: 10)",
    )
