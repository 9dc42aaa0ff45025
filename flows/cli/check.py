"""The command ``check``: an edited model of any making is judged, and the verdict stored."""

from typing import Any

import typer

from editcollapse.cli.check import EXAMPLES, EXIT, AskedCheck, show, status_of
from editcollapse.cli.mistakes import STOPPED
from flows.cli.command_run import run_flow
from flows.cli.options import JsonOption, ResultsOption, examples, with_options
from flows.cli.output.next_step import print_next

commands = typer.Typer()


@commands.command(rich_help_panel="Edited models", epilog=examples(*EXAMPLES, f"\n{EXIT}"))
@with_options(AskedCheck, "asked", required=("base", "edited"))
def check(
    asked: AskedCheck, as_json: JsonOption = False, results: ResultsOption = "results"
) -> int:
    """Judge an edited model of any making: what differs, what it changes on text, is it alive?"""
    from editcollapse.judging.inputs import check_inputs
    from editcollapse.study.results_folder import results_at

    spec, folder = asked.spec(), results_at(results)
    inputs = check_inputs(spec)  # a mistake is found before a server starts
    what = f"check of {inputs.name}"
    check_id = run_flow(_collapse_check, what, folder, spec, folder.name, is_quiet=as_json)
    if check_id is None:
        return STOPPED
    from storage.readers import check_findings

    found, rule = check_findings(folder.here, check_id, inputs.name), spec.collapse.rule
    show(found, inputs.name, rule, as_json=as_json)
    if not as_json:
        print_next('sql "from check_outcomes"', results)
    return status_of(found.verdict(rule), strict=asked.strict)


def _collapse_check() -> Any:
    from flows.check_flow import collapse_check

    return collapse_check
