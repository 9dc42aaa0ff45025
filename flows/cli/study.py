"""Commands on a study file: ``run``, ``plan``, ``covariance`` and ``reevaluate``."""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editcollapse.cli.console import print_json, print_line, print_text
from editcollapse.cli.mistakes import STOPPED
from flows.cli.asked_study import AskedStudy, opened, with_study
from flows.cli.command_run import run_flow
from flows.cli.options import (
    JsonOption,
    MeasureOption,
    RatioOption,
    ResultsOption,
    ThresholdOption,
    as_spec,
    examples,
    rule_of,
    said_with_flags,
    with_options,
)
from flows.cli.output.console import shown
from flows.cli.output.incidence import print_incidence
from flows.cli.output.next_step import after_plan, after_run, print_next
from flows.cli.output.sequences import print_sequences
from flows.cli.output.subjects import print_subjects

if TYPE_CHECKING:
    import polars as pl

    from editcollapse.config.spec import StudySpec
    from editcollapse.rows.collapse_rule import CollapseRule
    from editcollapse.study.results_folder import ResultsFolder
    from flows.cli.output.outlook import StudyOutlook, StudySurvey
    from storage.readers import EditorSequences

_NAMED = re.compile(r"( {2,}[a-z*, ]{1,18}? {2,})(\S.*)")
"""A plan's line of which the first column is a name."""

commands = typer.Typer()


@dataclasses.dataclass(frozen=True, slots=True)
class StudyReport:
    """Findings of a study's run, for ``--json``."""

    study: str
    study_id: str
    note: str
    rule: "CollapseRule"
    incidence: list[dict[str, Any]]
    """Rows of ``collapse_incidence`` by that rule."""
    sequences: "tuple[EditorSequences, ...]"
    """How the sequences of each model and editor end, by that rule."""
    results: str
    report: str | None
    """None where none was written."""


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredCovariance:
    """The second moment of a model, for ``--json``."""

    model: str
    covariance_id: str


@commands.command(
    rich_help_panel="Studies",
    epilog=examples(
        "run studies/demo.toml",
        "run --model demo/models/gpt2-induced --dataset demo/counterfact.json \\",
        "    --covariance demo/corpus.txt --texts demo/texts.jsonl --limit 8",
        "run studies/fall_of_rome.toml --results /data/rome",
        "run studies/fall_of_rome.toml --results s3://bucket/rome",
        "run studies/demo.toml --threshold 500 --json",
        "\nOn another device: EDITCOLLAPSE_DEVICE=cuda:1 before the command.",
    ),
)
@with_study
def run(
    asked: AskedStudy,
    threshold: ThresholdOption = None,
    ratio: RatioOption = None,
    measure: MeasureOption = None,
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """Run a study; what is cached is not computed again."""
    from flows.run.guard_steps import plan_guarded

    spec, folder = opened(asked, results)
    rule = rule_of(spec.collapse.rule, threshold, ratio, measure)
    plan_guarded(spec, folder.name)  # a mistake in the study is found before a server starts
    what = f"study {spec.name}"
    given = (spec, folder.name, as_spec(rule))
    study_id = run_flow(_collapse_study, what, folder, *given, is_quiet=as_json)
    if study_id is None:
        return STOPPED
    from reports.index import report_path
    from storage.ask import incidence
    from storage.readers import editor_sequences

    frame = incidence(folder.here, study_id, rule)
    page = f"{folder.name}/{report_path(spec.name)}"
    if as_json:
        _print_report(spec, study_id, rule, frame, folder, page)
    else:
        if spec.methods:
            print_incidence(frame, rule)
        print_sequences(editor_sequences(folder.here, study_id, rule), rule)
        _print_epilogue(spec, folder.name, page)
        print_next(after_run(asked.words(), spec, folder, study_id, rule, frame), results)
    return 0


def _collapse_study() -> Any:
    from flows.study import collapse_study

    return collapse_study


def _print_report(
    study: "StudySpec",
    study_id: str,
    rule: "CollapseRule",
    frame: "pl.DataFrame",
    folder: "ResultsFolder",
    page: str | None,
) -> None:
    """Print what a run has found as JSON."""
    from storage.readers import editor_sequences

    sequences = editor_sequences(folder.here, study_id, rule)
    found = (study.name, study_id, study.note, rule, frame.to_dicts(), sequences)
    print_json(StudyReport(*found, folder.name, page))


def _print_epilogue(study: "StudySpec", results: str, page: str) -> None:
    """Print the claim, and where the results lie."""
    from storage.database import SNAPSHOT

    if study.note:
        print_line("")
        print_text(study.note, "Note: ")
    print_line(f"\nresults: {shown(f'{results}/{SNAPSHOT}')}")
    print_line(f"report:  {shown(page)}")


@commands.command(
    rich_help_panel="Studies",
    epilog=examples(
        "plan studies/fall_of_rome.toml", "plan studies/demo.toml --results /data/demo --json"
    ),
)
@with_study
def plan(asked: AskedStudy, as_json: JsonOption = False, results: ResultsOption = "results") -> int:
    """Say what a study would run, what is cached, its memory, and where subjects stand; no GPU.

    Where inputs are not here, it says what is known without them.
    """
    from editcollapse.study.missing_inputs import missing_inputs
    from flows.cli.output.outlook import outlook_lines, study_outlook, study_survey, survey_lines
    from flows.run.guard_steps import plan_guarded

    spec, folder = opened(asked, results)
    missing = tuple(missing_inputs(spec))
    if missing:
        survey = study_survey(spec, missing)
        _print_plan(survey, survey_lines(survey), as_json=as_json)
    else:
        outlook = study_outlook(plan_guarded(spec, folder.name))
        _print_plan(outlook, outlook_lines(outlook), as_json=as_json)
        if not as_json:
            print_next(after_plan(asked.words(), outlook), results)
    return 0


def _print_plan(
    found: "StudyOutlook | StudySurvey", lines: Iterable[str], *, as_json: bool
) -> None:
    """Print what is known of a study, as JSON or as lines."""
    if as_json:
        print_json(found)
    else:
        for line in lines:
            named = _NAMED.fullmatch(line)
            print_text(named[2] if named else line, named[1] if named else "")
        print_subjects(found.subjects)


@commands.command(
    rich_help_panel="Studies",
    epilog=examples("covariance studies/fall_of_rome.toml --results /data/rome"),
)
@with_study
def covariance(
    asked: AskedStudy, as_json: JsonOption = False, results: ResultsOption = "results"
) -> int:
    """Measure the second moments of a study's models, and nothing else."""
    from editcollapse.study.plan import plan_study

    spec, folder = opened(asked, results)
    plan_study(spec, folder.name)  # a mistake in the study is found before a server starts
    what = f"covariance of {spec.name}"
    ids = run_flow(_precompute_covariance, what, folder, spec, folder.name, is_quiet=as_json)
    if ids is None:
        return STOPPED
    pairs = zip(spec.models, ids, strict=True)
    found = [MeasuredCovariance(model.name, covariance_id) for model, covariance_id in pairs]
    if as_json:
        print_json(found)
    else:
        for each in found:
            print_line(f"{each.model}: covariance {each.covariance_id}")
        print_next(f"forecast {asked.words()}", results)
    return 0


def _precompute_covariance() -> Any:
    from flows.precompute import precompute_covariance

    return precompute_covariance


@commands.command(
    rich_help_panel="Studies",
    epilog=examples(
        "reevaluate studies/demo.toml --texts other.jsonl",
        "reevaluate studies/demo.toml --texts other.jsonl --max-texts 100",
    ),
)
@with_options(AskedStudy, "asked", without=("texts",))
def reevaluate(
    asked: AskedStudy,
    texts: Annotated[
        Path, typer.Option(metavar="FILE", help="perplexity texts: JSON, JSONL or plain text")
    ],
    max_texts: Annotated[
        int | None, typer.Option(metavar="N", help="use only the first so many texts")
    ] = None,
    threshold: ThresholdOption = None,
    ratio: RatioOption = None,
    measure: MeasureOption = None,
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """Measure the stored edits of a study on other texts; edits nothing again."""
    from editcollapse.config.spec import EvaluationSpec
    from flows.cli.command_run import run_watched
    from flows.observe import environment

    spec, folder = opened(asked, results)
    rule = rule_of(spec.collapse.rule, threshold, ratio, measure)
    with said_with_flags():
        evaluation = EvaluationSpec(texts=str(texts.resolve()), max_texts=max_texts)
    server = environment.prepare(folder.here)
    from flows.reevaluation import plan_reevaluation
    from flows.reevaluation import reevaluate as measure_again

    plan_reevaluation(spec, evaluation, folder.name)
    if not as_json:
        print_line(f"re-evaluation of {spec.name} with {server}; results in {shown(folder.name)}")
    given = (spec, evaluation, folder.name, as_spec(rule))
    study_id = run_watched(server, lambda: measure_again, *given)
    if study_id is None:
        return STOPPED
    from storage.ask import incidence

    frame = incidence(folder.here, study_id, rule)
    if as_json:
        _print_report(spec, study_id, rule, frame, folder, None)
    else:
        print_incidence(frame, rule)
        print_line(f"recorded as study_id {study_id}")
        print_next(f"report {study_id}", results)
    return 0
