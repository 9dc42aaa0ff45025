"""The command ``forecast`` of one edit: its verdict by every method, before it is made."""

import os
from typing import TYPE_CHECKING

import typer

from editcollapse.cli import options
from editcollapse.cli.options import examples

if TYPE_CHECKING:
    from editcollapse.forecast.verdicts import ForecastReport

_COLUMNS = (
    "method",
    "verdict",
    "change bound",
    "P(collapse)",
    "k0 . u",
    "kbar . u",
    "rho",
    "norm bound",
    "over ‖W‖",
)
_STYLES = {"safe": "green", "at risk": "yellow", "not known": "yellow", "will collapse": "bold red"}


def add_forecast(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(
        "forecast",
        epilog=examples(
            'editcollapse forecast --model demo/models/gpt2-induced --prompt "{} was born in" '
            "--subject Pugis --target Jorvale --covariance demo/corpus.txt --tokens 20000",
            'editcollapse forecast --model openai-community/gpt2-xl --prompt "{} plays" '
            "--subject Pele --target tennis --covariance statistics.npz",
        ),
    )(forecast)


def forecast(
    *,
    model: options.Model,
    prompt: options.Prompt,
    subject: options.Subject,
    target: options.Target,
    covariance: options.Covariance,
    layer: options.Layer = None,
    tokens: options.Tokens = 100_000,
    damping: options.Damping = 0.0,
    revision: options.Revision = None,
    dtype: options.Dtype = "float32",
    start_token: options.StartToken = "tokenizer",
    chat_template: options.ChatTemplate = False,
    safe_below: options.SafeBelow = None,
    as_json: options.AsJson = False,
) -> None:
    """Say whether one edit would collapse a model, by every method, before it is made."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from editcollapse.api import Editor, edit_request
    from editcollapse.cli.console import print_json, progress_shown
    from editcollapse.forecast.defaults import default_thresholds

    limits = default_thresholds()
    if safe_below is not None:
        limits = limits.accepting(safe_below)
    request = edit_request(prompt, subject=subject, target=target)
    editor = Editor(
        model,
        covariance=covariance,
        layer=layer,
        tokens=tokens,
        damping=damping,
        thresholds=limits,
        revision=revision,
        dtype=dtype,
        start_token=start_token,
        chat_template=chat_template,
    )
    with progress_shown("starting torch"):
        report = editor.forecast_report(request)
    if as_json:
        print_json(report)
    else:
        show_forecast(report)


def show_forecast(report: "ForecastReport") -> None:
    """Print the forecast of one edit: where the subject stands, then each method's verdict.

    A narrow terminal gets the columns that the verdict rests on; JSON has all.
    """
    from rich.text import Text

    from editcollapse.cli.console import console, print_line, print_text
    from editcollapse.cli.tables import Column, fitted, print_table
    from editcollapse.forecast.verdicts import in_words
    from editcollapse.rows.study import LAST_TOKEN_DIFFERS, POSITIONS
    from editcollapse.visible import visible

    (one,) = report.requests
    position = one.position
    print_line(f"{visible(one.prompt.replace('{}', one.subject))} -> {visible(one.target_new)}")
    print_text(
        f"{POSITIONS.get(position.subject_position, position.subject_position)}; tokens "
        f"{position.subject_first_index} to {position.subject_last_index} of the input, the last "
        f"{position.subject_last_token!r}",
        "subject: ",
    )
    if position.last_token_differs:
        print_text(LAST_TOKEN_DIFFERS, "note: ")
    print_text(f"forecast for {one.model}, layer {one.layer}")
    columns = [Column(name, is_number=name not in {"method", "verdict"}) for name in _COLUMNS]
    rows = []
    for each in one.methods:
        row = each.forecast
        numbers = (
            row.bare_key_dot,
            row.prefixed_key_dot,
            row.rho,
            row.certified_bound,
            row.relative_bound,
        )
        style = _STYLES[each.verdict]
        rows.append(
            [
                Text(row.method),
                Text(in_words(each.verdict), style=style),
                Text(f"{row.text_change_bound:.3g}"),
                Text("" if each.probability is None else str(each.probability)),
                *(Text(f"{number:.3g}") for number in numbers),
            ]
        )
    screen = console()
    table = fitted(columns, rows, screen.width)
    if table is not None:
        screen.print(table)
    else:
        print_table(columns[:-2], [row[:-2] for row in rows], screen)
    for each in one.methods:
        if each.verdict != "safe":
            print_text(f"{in_words(each.verdict)}. {each.why}", f"{each.forecast.method}: ")
    safe = [each.forecast.method for each in one.methods if each.verdict == "safe"]
    if safe:
        print_text(
            "on text the layer's output changes by less than "
            f"{report.basis[0].thresholds.at_risk_at:.3g} times its size, whatever v* will be.",
            f"safe ({', '.join(safe)}): ",
        )
    print_text(report.basis[0].basis)
