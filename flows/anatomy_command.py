"""The command that asks why: ``python -m flows anatomy``."""

import argparse
import dataclasses
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.table import Table

from editcollapse.anatomy.encoders import absolute_source
from editcollapse.config.study_file import read_study
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.study.results_folder import place_of
from flows.observe import environment
from flows.observe.command_run import run_watched
from flows.option_parts import add_command, add_results, add_rule
from flows.terminal import STOPPED, console, plain, print_json, shown
from storage.readers import AnatomyFinding, anatomy_findings


@dataclasses.dataclass(frozen=True, slots=True)
class AnatomyReport:
    """What the root-cause study of a study has found, for ``--json``."""

    study_id: str
    rule: CollapseRule
    findings: tuple[AnatomyFinding, ...]


def add_anatomy(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's words (docs/anatomy.md)."""
    command = add_command(
        commands,
        "anatomy",
        "say why ROME collapses a study's models: keys, denominators and numerators compared",
        "python -m flows anatomy studies/demo.toml\n"
        "  python -m flows anatomy studies/demo.toml --encoder google-t5/t5-small --json",
    )
    command.add_argument(
        "study",
        type=Path,
        metavar="STUDY.toml",
        help="study whose methods contain rome; what it has not done yet is done first",
    )
    command.add_argument(
        "--encoder",
        action="append",
        default=[],
        metavar="PATH_OR_ID",
        help="T5 model whose encoder's keys are profiled for contrast; may be given several times",
    )
    add_rule(command)
    command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add_results(command)


def anatomy(options: argparse.Namespace) -> int:
    """Look for the root cause of a study's collapses, and print what was observed."""
    study, place = read_study(options.study), place_of(options.results)
    rule = CollapseRule(threshold=options.threshold, ratio=options.ratio)
    encoders = tuple(absolute_source(source) for source in options.encoder)
    server = environment.prepare(place.here)
    from flows.anatomy import plan_anatomy

    plan_anatomy(study, place.name, encoders)  # a mistake is told before the work begins
    if not options.json:
        where = shown(place.name)
        console().print(f"anatomy of {study.name} with {server}; results in {where}", markup=False)
    study_id = run_watched(
        server, _collapse_anatomy, study, place.name, encoders, rule.threshold, rule.ratio
    )
    if study_id is None:
        return STOPPED
    found = anatomy_findings(place.here, study_id, rule)
    if options.json:
        print_json(AnatomyReport(study_id, rule, found))
    else:
        _show(found, study.note)
    return 0


def _collapse_anatomy() -> Any:
    from flows.anatomy import collapse_anatomy

    return collapse_anatomy


def _show(found: Sequence[AnatomyFinding], note: str) -> None:
    """Print a table of findings for each model and grouping, then the study's note."""
    screen = console()
    if not found:
        screen.print(
            "no findings: each side needs 5 subjects, those whose last token opens the prompt and "
            "the others, or those whose edit by rome collapsed the model and the others"
        )
    for (model, layer, grouping), rows in groupby(
        found, key=lambda each: (each.model, each.layer, each.grouping)
    ):
        table = Table(title=plain(f"{model} layer {layer}, by {grouping.replace('_', ' ')}"))
        table.add_column("observation")
        for name in ("value", "95 % interval"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("in words")
        for row in rows:
            table.add_row(
                row.observation,
                f"{row.value:.3g}",
                f"{row.low:.3g} to {row.high:.3g}",
                plain(row.statement),
            )
        screen.print(table)
    if note:
        screen.print(f"\nNote: {note}", markup=False)
    screen.print(
        'next:    python -m flows sql "from anatomy", or "from key_geometry", "from '
        'position_profiles"',
        markup=False,
        soft_wrap=True,
    )
