"""The command line's words: commands, options, and examples of each."""

import argparse
from pathlib import Path

from editcollapse import __version__
from flows.anatomy_command import add_anatomy
from flows.edit_options import add_edit
from flows.forecast_options import add_forecasts
from flows.operation_options import add_operations
from flows.option_parts import add_command as _command
from flows.option_parts import add_results as _results
from flows.sweep_options import add_sweep
from flows.upkeep_options import add_upkeep

_STUDY = "study file, such as studies/demo.toml"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m flows``."""
    parser = argparse.ArgumentParser(
        prog="python -m flows",
        description="Measure how often, where and why single edits collapse a language model.",
        epilog=(
            "examples:\n"
            "  python -m flows run studies/demo.toml\n"
            '  python -m flows sql "from collapse_incidence"\n'
            "  python -m flows check-model openai-community/gpt2-xl\n"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"editcollapse {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = _command(
        commands,
        "run",
        "run a study; what is cached is not computed again",
        "python -m flows run studies/demo.toml\n"
        "  python -m flows run studies/fall_of_rome.toml --results /data/rome\n"
        "  EDITCOLLAPSE_DEVICE=cuda:1 python -m flows run studies/demo.toml\n"
        "  python -m flows run studies/fall_of_rome.toml --results s3://bucket/rome",
    )
    run.add_argument("study", type=Path, metavar="STUDY.toml", help=_STUDY)
    _results(run)

    plan = _command(
        commands,
        "plan",
        "say what a study would run, what is cached, and its memory; touches no GPU",
        "python -m flows plan studies/fall_of_rome.toml",
    )
    plan.add_argument("study", type=Path, metavar="STUDY.toml", help=_STUDY)
    _results(plan)

    sql = _command(
        commands,
        "sql",
        "ask the published results; read-only",
        'python -m flows sql "from collapse_incidence"\n'
        '  python -m flows sql "from collapse_incidence(threshold := 500, ratio := null)"\n'
        '  python -m flows sql --csv "select * from edit_outcomes" > outcomes.csv',
    )
    sql.add_argument("query", metavar="QUERY", help="DuckDB SQL")
    sql.add_argument("--csv", action="store_true", help="print CSV instead of a table")
    _results(sql)

    tables = _command(
        commands,
        "tables",
        "list tables and views, or the columns of one",
        "python -m flows tables\n  python -m flows tables edit_outcomes",
    )
    tables.add_argument("table", nargs="?", metavar="TABLE", help="list the columns of this one")
    _results(tables)

    check = _command(
        commands,
        "check-model",
        "verify that a model can be edited and measured exactly",
        "python -m flows check-model demo/models/gpt2-induced\n"
        "  python -m flows check-model EleutherAI/gpt-j-6b --dtype bfloat16 --layer 5",
    )
    check.add_argument("model", metavar="PATH_OR_ID", help="local folder or Hugging Face hub id")
    check.add_argument("--revision", help="branch, tag or commit on the hub")
    check.add_argument("--layer", type=int, help="check this layer only")
    check.add_argument(
        "--dtype", default="float32", choices=("float32", "bfloat16", "float16", "float64")
    )
    check.add_argument(
        "--start-token",
        default="tokenizer",
        choices=("tokenizer", "never", "always"),
        help="whether a start token (BOS) opens prompts",
    )

    report = _command(
        commands,
        "report",
        "write a study's HTML report again from the published results",
        "python -m flows report\n  python -m flows report demo --results /data/demo",
    )
    report.add_argument(
        "study",
        nargs="?",
        default="",
        metavar="STUDY",
        help="name or id of a study; may be left out where there is one only",
    )
    _results(report)

    rebuild = _command(
        commands,
        "rebuild",
        "make results.duckdb again from the artifacts alone",
        "python -m flows rebuild --results results",
    )
    _results(rebuild)
    add_forecasts(commands)
    add_anatomy(commands)
    add_edit(commands)
    add_sweep(commands)
    add_upkeep(commands)

    pretrain = _command(
        commands,
        "pretrain",
        "train the demo models again (docs/demo_models.md)",
        "python -m flows pretrain --output /data/demo",
    )
    pretrain.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for models and data"
    )
    add_operations(commands)
    return parser
