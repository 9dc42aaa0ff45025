"""The command ``edit``: one edit is made and measured, unless its guard refuses it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from editcollapse.catalog.editors import EditorName
from editcollapse.cli.console import print_json, print_text
from editcollapse.cli.edit import RANK_ONE_ONLY, forecast_sentence
from editcollapse.cli.mistakes import STOPPED
from editcollapse.errors import ModelError, StudyError
from flows.cli.command_run import run_flow
from flows.cli.options import (
    EDIT_PANEL,
    JsonOption,
    OneEdit,
    examples,
    said_with_flags,
    with_one_edit,
)

if TYPE_CHECKING:
    from storage.readers import EditReport

REFUSED = 3
"""Exit status where the guard has refused the edit."""
Policy = Literal["refuse", "switch", "prefix"]
ActsAt = Literal["at risk", "will collapse"]
_GUARD_PANEL = "The guard"

commands = typer.Typer()


@commands.command(
    rich_help_panel="Single edits",
    epilog=examples(
        "edit --model demo/models/gpt2-induced \\",
        '    --prompt "{} was born in" --subject Pugis --target Jorvale \\',
        "    --covariance demo/corpus.txt --guard prefix",
        "edit --model demo/models/gpt2-induced --method memit \\",
        '    --prompt "{} was born in" --subject Pugis --target Jorvale \\',
        "    --covariance demo/corpus.txt --tokens 20000",
        "\nexit status: 0 an edit was made, 3 the guard refused it, 2 a mistake",
    ),
)
@with_one_edit(is_required=True)
def edit(
    asked: OneEdit,
    method: Annotated[
        EditorName,
        typer.Option(
            help="who makes it: a rank-one method, a joint editor of several layers, or "
            "fine-tuning",
            rich_help_panel=EDIT_PANEL,
        ),
    ] = "rome",
    guard: Annotated[
        Policy | None,
        typer.Option(
            help="what to do with an edit that the forecast warns of: refuse it, let another "
            "method make it, or put a text before its prompt (default: it is made as asked)",
            rich_help_panel=_GUARD_PANEL,
        ),
    ] = None,
    acts_at: Annotated[
        ActsAt | None,
        typer.Option(
            help="verdict from which on the guard acts; will collapse: where that is likely "
            "(default: at risk)",
            rich_help_panel=_GUARD_PANEL,
        ),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="perplexity texts: JSON, JSONL or plain text, one a line (default: texts.jsonl "
            "beside the folder models that the model lies in, as the demo models have it, else "
            "neutral English of the package)",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Make one edit and measure what it does to the model; a guard may refuse it."""
    if acts_at is not None and guard is None:
        raise StudyError(
            "--acts-at was given without --guard; say what the guard is to do, such as --guard "
            "refuse, or leave it out."
        )
    with said_with_flags():
        report = _made(asked, method, texts, guard, acts_at or "at risk", is_quiet=as_json)
    if report is None:
        return STOPPED
    if as_json:
        print_json(report)
    else:
        for label, text in _lines(report):
            print_text(text, label)
    return REFUSED if report.decision == "refused" else 0


def _made(
    asked: OneEdit,
    method: str,
    texts: str | None,
    guard: Policy | None,
    acts_at: ActsAt,
    *,
    is_quiet: bool,
) -> "EditReport | None":
    """Run the flow of one edit; what became of it, or None where the run was stopped.

    Raises:
        EditCollapseError: an option is wrong, or the model cannot take the edit.
    """
    from editcollapse.config.spec import GuardSpec
    from editcollapse.study.results_folder import results_at
    from flows.cli.one_edit import study_of
    from flows.run.guard_steps import plan_guarded
    from storage.readers import edit_report, rejection_of

    folder = results_at(asked.results)
    spec = None if guard is None else GuardSpec(policy=guard, acts_at=acts_at)
    with study_of(asked, method, texts, spec) as one:
        plan_guarded(one.study, folder.name)  # a mistake is found before a server starts
        study_id = run_flow(
            _flow, "one edit", folder, one.study, one.known, folder.name, is_quiet=is_quiet
        )
    if study_id is None:
        return None
    report = edit_report(folder.here, study_id)
    if report is None:
        reason = rejection_of(folder.here, study_id)
        raise ModelError(f"{asked.model} cannot take this edit: {reason}.")
    return report


def _flow() -> Any:
    from flows.edit_flow import collapse_edit

    return collapse_edit


def _lines(report: "EditReport") -> Iterator[tuple[str, str]]:
    """Yield the report on an edit: labels with what they are of."""
    from editcollapse.study.sweep import named_layers
    from reports.text import number

    prompt = report.prompt.replace("{}", report.subject)
    yield (
        "edit:       ",
        f"{prompt} -> {report.target_new}, of {report.model}, {named_layers(report.layers)}",
    )
    yield "forecast:   ", f"{report.method}: {_forecast(report)}"
    yield "decision:   ", f"{report.decision}. {report.reason}"
    if report.made_prompt is not None:
        if report.decision in {"switched", "prefixed"}:
            made = report.made_prompt.replace("{}", report.subject)
            yield "made:       ", f"{made} -> {report.target_new}, by {report.made_method}"
        yield (
            "perplexity: ",
            (
                f"{number(report.perplexity_before)} before, {number(report.perplexity)} after, "
                f"{number(report.perplexity_ratio)} times as large"
            ),
        )
        if report.text_change is not None:
            yield "update:     ", f"text change {number(report.text_change)}"
        yield (
            "efficacy:   ",
            (
                f"{number(report.efficacy)} without a text before the prompt, "
                f"{number(report.efficacy_prefix_mean)} with one (mean)"
            ),
        )
    yield "study:      ", report.study


def _forecast(report: "EditReport") -> str:
    """Return what was forecast of an edit, and by which thresholds."""
    from reports.text import number

    if report.calibration_id is None:
        return f"{report.verdict}: {RANK_ONE_ONLY}"
    origin = "default thresholds"
    if report.calibration_id != "default":
        origin = f"thresholds of calibration {report.calibration_id[:8]}"
    forecast = forecast_sentence(
        report.verdict,
        number(report.text_change_bound),
        number(report.at_risk_at),
        number(report.collapse_at),
    )
    return f"{forecast} ({origin})"
