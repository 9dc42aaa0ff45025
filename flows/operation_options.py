"""The command line's words for scheduled operation: deployments and their flows."""

import argparse
from pathlib import Path

from flows.option_parts import add_command, add_results

_STUDY = "study file, such as studies/scheduled.toml"


def add_operations(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands ``covariance``, ``reevaluate`` and ``deploy``."""
    covariance = add_command(
        commands,
        "covariance",
        "measure the second moments of a study's models, and nothing else",
        "python -m flows covariance studies/fall_of_rome.toml --results /data/rome",
    )
    covariance.add_argument("study", type=Path, metavar="STUDY.toml", help=_STUDY)
    add_results(covariance)

    reevaluate = add_command(
        commands,
        "reevaluate",
        "measure the stored edits of a study on other texts; edits nothing again",
        "python -m flows reevaluate studies/demo.toml --texts other.jsonl\n"
        "  python -m flows reevaluate studies/demo.toml --texts other.jsonl --max-texts 100",
    )
    reevaluate.add_argument("study", type=Path, metavar="STUDY.toml", help=_STUDY)
    reevaluate.add_argument(
        "--texts", required=True, metavar="FILE", help="perplexity texts: JSON, JSONL or plain text"
    )
    reevaluate.add_argument(
        "--max-texts", type=int, metavar="N", help="use only the first so many texts"
    )
    add_results(reevaluate)

    deploy = add_command(
        commands,
        "deploy",
        "register the deployments of prefect.yaml, their work pool, and the rule for dead runs",
        "python -m flows deploy\n"
        "  python -m flows deploy --results /data/results\n"
        "  python -m flows deploy --on kubernetes",
    )
    deploy.add_argument(
        "--on",
        default="process",
        choices=("process", "docker", "kubernetes"),
        help="what the worker runs flows in (default: processes of its own machine)",
    )
    deploy.add_argument(
        "--results",
        metavar="DIR",
        help="results folder, or URL, of the deployments (default: results; in containers "
        "/data/results)",
    )
