"""The command ``anatomy``: why edits by ROME collapse a study's models."""

import dataclasses
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from editcollapse.cli.console import console, plain, print_json, print_line, print_text
from editcollapse.cli.mistakes import STOPPED
from editcollapse.cli.tables import Column, print_table
from flows.cli.asked_study import AskedStudy, opened, with_study
from flows.cli.options import (
    JsonOption,
    MeasureOption,
    RatioOption,
    ResultsOption,
    ThresholdOption,
    as_spec,
    examples,
    rule_of,
)
from flows.cli.output.console import shown
from flows.cli.output.next_step import print_next

if TYPE_CHECKING:
    from editcollapse.rows.collapse_rule import CollapseRule
    from storage.readers import AnatomyFinding

commands = typer.Typer()


@dataclasses.dataclass(frozen=True, slots=True)
class AnatomyReport:
    """Findings of a root-cause study, for ``--json``."""

    study_id: str
    rule: "CollapseRule"
    findings: "tuple[AnatomyFinding, ...]"


@commands.command(
    rich_help_panel="Studies",
    epilog=examples(
        "anatomy studies/demo.toml", "anatomy studies/demo.toml --encoder google-t5/t5-small --json"
    ),
)
@with_study
def anatomy(
    asked: AskedStudy,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH_OR_ID",
            help="T5 model whose encoder's keys are profiled for contrast; may be given several "
            "times",
        ),
    ] = None,
    threshold: ThresholdOption = None,
    ratio: RatioOption = None,
    measure: MeasureOption = None,
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """Say why ROME collapses a study's models: keys, denominators and numerators compared.

    Its methods have to contain rome; what the study has not done yet is done first.
    """
    from editcollapse.anatomy.encoders import absolute_source
    from flows.cli.command_run import run_watched
    from flows.observe import environment
    from storage.readers import anatomy_findings

    spec, folder = opened(asked, results)
    rule = rule_of(spec.collapse.rule, threshold, ratio, measure)
    encoders = tuple(absolute_source(source) for source in encoder or ())
    server = environment.prepare(folder.here)
    from flows.anatomy import plan_anatomy

    plan_anatomy(spec, folder.name, encoders)  # a mistake is found before the work begins
    if not as_json:
        print_line(f"anatomy of {spec.name} with {server}; results in {shown(folder.name)}")
    study_id = run_watched(server, _collapse_anatomy, spec, folder.name, encoders, as_spec(rule))
    if study_id is None:
        return STOPPED
    found = anatomy_findings(folder.here, study_id, rule)
    if as_json:
        print_json(AnatomyReport(study_id, rule, found))
    else:
        _show(found, spec.note)
        print_next(f"report {study_id}", results)
    return 0


def _collapse_anatomy() -> Any:
    from flows.anatomy import collapse_anatomy

    return collapse_anatomy


def _show(found: "Sequence[AnatomyFinding]", note: str) -> None:
    """Print a table of findings for each model and grouping, then the study's note."""
    screen = console()
    if not found:
        print_text(
            "no findings: each side needs 5 subjects, those whose last token opens the prompt and "
            "the others, or those whose edit by rome collapsed the model and the others"
        )
    columns = [
        Column("observation"),
        Column("value", is_number=True),
        Column("95 % interval", is_number=True),
        Column("in words", shrinks="wraps"),
    ]
    for (model, layer, grouping), findings in groupby(
        found, key=lambda each: (each.model, each.layer, each.grouping)
    ):
        rows = [
            [
                plain(each.observation),
                Text(f"{each.value:.3g}"),
                Text(f"{each.low:.3g} to {each.high:.3g}"),
                plain(each.statement),
            ]
            for each in findings
        ]
        print_text(f"\n{model} layer {layer}, by {grouping.replace('_', ' ')}")
        print_table(columns, rows, screen)
    if note:
        print_line("")
        print_text(note, "Note: ")
