"""The command line's words for forecasts: of a study, of one edit, and how they are calibrated."""

import argparse
from pathlib import Path

from flows.option_parts import add_command, add_results

FROM_RESULTS = "results"
IDENTITY = "identity"


def add_forecasts(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands ``forecast`` and ``calibrate``."""
    forecast = add_command(
        commands,
        "forecast",
        "say which edits would collapse a model, before any is made",
        "python -m flows forecast studies/demo.toml\n"
        '  python -m flows forecast --model demo/models/gpt2-induced --prompt "{} is a twin city '
        'of" \\\n      --subject Chicago --target Rome\n'
        '  python -m flows forecast --model openai-community/gpt2-xl --prompt "{} plays" \\\n'
        "      --subject Pele --target tennis --covariance wiki.txt --tokens 100000",
    )
    forecast.add_argument(
        "study", type=Path, nargs="?", metavar="STUDY.toml", help="forecast all edits of a study"
    )
    one = forecast.add_argument_group("one edit, in place of a study")
    add_one_edit(one, is_required=False)
    forecast.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add_results(forecast)

    calibrate = add_command(
        commands,
        "calibrate",
        "take the forecast's thresholds from the edits that were foreseen, made and measured",
        "python -m flows calibrate\n"
        "  python -m flows calibrate --results /data/rome --recall 1 --ratio 5",
    )
    calibrate.add_argument(
        "--recall",
        type=float,
        default=0.99,
        metavar="X",
        help="share of collapses that at risk has to catch (default: 0.99)",
    )
    calibrate.add_argument(
        "--precision",
        type=float,
        default=0.95,
        metavar="X",
        help="share of edits that will collapse and have to (default: 0.95)",
    )
    calibrate.add_argument(
        "--threshold",
        type=float,
        default=1000.0,
        metavar="X",
        help="an edit has collapsed where perplexity is above this (default: 1000)",
    )
    calibrate.add_argument(
        "--ratio",
        type=float,
        default=10.0,
        metavar="X",
        help="or above so many times the unedited model's (default: 10)",
    )
    add_results(calibrate)


def add_one_edit(one: "argparse._ArgumentGroup", *, is_required: bool) -> None:
    """Add the options that name one edit, and what its layer and C are.

    Args:
        one: the group of options.
        is_required: whether the command is of one edit in any case.
    """
    for name, metavar, words in (
        ("model", "PATH_OR_ID", "local folder or Hugging Face hub id"),
        ("prompt", "TEXT", "rewrite prompt with {} for the subject"),
        ("subject", "TEXT", "the entity whose fact is edited"),
        ("target", "TEXT", "the object to be written"),
    ):
        one.add_argument(f"--{name}", metavar=metavar, required=is_required, help=words)
    one.add_argument(
        "--covariance",
        default=FROM_RESULTS,
        metavar="SOURCE",
        help="where C comes from: results (what a study in --results uses; default), identity, or "
        "a corpus: a text file or a hub dataset id",
    )
    one.add_argument(
        "--layer", type=int, metavar="N", help="block to edit (default: the study's or preset's)"
    )
    one.add_argument(
        "--tokens", type=int, metavar="N", default=100_000, help="of a corpus (default: 100000)"
    )
    one.add_argument(
        "--damping", type=float, metavar="X", default=0.0, help="of a corpus's C (default: 0)"
    )
    one.add_argument("--revision", help="branch, tag or commit on the hub")
    one.add_argument(
        "--dtype", default="float32", choices=("float32", "bfloat16", "float16", "float64")
    )
    one.add_argument(
        "--start-token",
        default="tokenizer",
        choices=("tokenizer", "never", "always"),
        help="whether a start token (BOS) opens prompts",
    )
