"""The command ``demo``: a real pretrained LLM beside the embedded models, in one table."""

from typing import Any

import typer

from editcollapse.catalog.packaged_models import PACKAGED_MODELS
from editcollapse.cli.console import print_line, print_text
from editcollapse.cli.fetch_model import fetched
from editcollapse.cli.mistakes import STOPPED
from flows.cli.command_run import run_flow
from flows.cli.options import ResultsOption, examples
from flows.cli.output.console import shown
from flows.cli.output.incidence import print_incidence
from flows.cli.output.next_step import print_next
from flows.observe.environment import ROOT

STUDIES = ROOT / "studies"
EMBEDDED = STUDIES / "demo.toml"
REAL = STUDIES / "smollm2.toml"
MODELS = ROOT / "models"
"""Where study files look for models that were fetched."""
_PACKAGED = PACKAGED_MODELS["smollm2-135m-instruct"]

commands = typer.Typer()


@commands.command(rich_help_panel="Studies", epilog=examples("demo", "demo --results /data/demo"))
def demo(results: ResultsOption = "results") -> int:
    """Edit a real LLM and the embedded models; say which edits collapse them.

    The LLM, SmolLM2-135M-Instruct, is taken from the Python package index, once. Where that does
    not give it, the embedded models are edited alone.
    """
    import polars as pl

    from editcollapse.config.study_file import read_study
    from editcollapse.study.results_folder import results_at
    from flows.run.guard_steps import plan_guarded
    from reports.index import report_path
    from storage.ask import incidence
    from storage.database import SNAPSHOT

    folder = results_at(results)
    studies = [read_study(path) for path in ([EMBEDDED, REAL] if _has_real_model() else [EMBEDDED])]
    for study in studies:
        plan_guarded(study, folder.name)  # a mistake is found before a server starts
    frames = []
    for study in studies:
        given = (study, folder.name)
        study_id = run_flow(_collapse_study, f"study {study.name}", folder, *given, is_quiet=False)
        if study_id is None:
            return STOPPED
        frames.append(incidence(folder.here, study_id, study.collapse.rule))
    print_incidence(pl.concat(reversed(frames)), studies[-1].collapse.rule)
    for study in reversed(studies):
        if study.note:
            print_line("")
            print_text(study.note, "Note: ")
    print_line(f"\nresults: {shown(f'{folder.name}/{SNAPSHOT}')}")
    for study in reversed(studies):
        print_line(f"report:  {shown(f'{folder.name}/{report_path(study.name)}')}")
    print_next(f"anatomy studies/{EMBEDDED.name}", results)
    return 0


def _has_real_model() -> bool:
    """Return whether the real model is there, fetched where it was not; if not, say why."""
    from editcollapse.models.fetching import NotFetchedError

    try:
        fetched(_PACKAGED, MODELS)
    except NotFetchedError as error:
        print_text(f"Without SmolLM2, the embedded models alone: {error}")
        return False
    return True


def _collapse_study() -> Any:
    from flows.study import collapse_study

    return collapse_study
