"""The command ``tune``: layer and v* settings for a model that has no published ones."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from editcollapse.cli.console import console, plain, print_json, print_line, print_text
from editcollapse.cli.mistakes import STOPPED
from editcollapse.cli.tables import Column, print_table
from flows.cli.asked_study import AskedStudy
from flows.cli.command_run import run_flow
from flows.cli.options import (
    DType,
    JsonOption,
    ResultsOption,
    StartToken,
    examples,
    options_of,
    said_with_flags,
    with_options,
)
from flows.cli.output.console import shown
from flows.cli.output.next_step import print_next

if TYPE_CHECKING:
    from editcollapse.config.spec import StudySpec
    from editcollapse.rows.tuning import TuningTrialRow
    from editcollapse.study.tuning import ModelTuning
    from storage.readers import FactCounts

_of_tuning = options_of("How much is tried")
_of_model = options_of("The model, and where C comes from")
_TRIED = (
    "select trial, rung, layer, learning_rate, steps, clamp_factor, weight_decay, n_facts, "
    "objective from tuning_trials where part = 'tuning' order by rung desc, objective desc limit 20"
)
"""Trials of all tunings, the best first."""
_LONGEST_NAME = 80

commands = typer.Typer()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AskedTuning:
    """A tuning as the command is asked for it."""

    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="local folder or Hugging Face hub id")
    ]
    facts: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="facts that the model may know: any dataset that studies read, with target_true",
        ),
    ]
    trials: Annotated[
        int, _of_tuning("N", "layers with settings that are tried at most", shows=True)
    ] = 24
    n_facts: Annotated[
        int, _of_tuning("N", "known facts that are used at most, half of them held out", shows=True)
    ] = 48
    layers: Annotated[
        str | None,
        _of_tuning(
            "LAYERS", "layers and ranges to try, such as 2-12,15 (default: six of the first 60 %)"
        ),
    ] = None
    budget: Annotated[
        float | None, _of_tuning("MINUTES", "begin no more trials after about so long")
    ] = None
    limit: Annotated[int | None, _of_tuning("N", "only the first so many usable facts")] = None
    covariance: Annotated[
        str | None,
        _of_model(
            "SOURCE",
            "where C comes from: a text file or a hub dataset id, samples (what the model itself "
            "writes), identity, or published statistics, .npz or .safetensors (default: the hub's "
            "Salesforce/wikitext)",
        ),
    ] = None
    tokens: Annotated[int, _of_model("N", "of a corpus", shows=True)] = 100_000
    damping: Annotated[
        float, _of_model("X", "added to C's diagonal, in units of its mean", shows=True)
    ] = 0.0
    texts: Annotated[
        str | None,
        _of_model("FILE", "perplexity texts (default: 50 texts of neutral English of the package)"),
    ] = None
    max_texts: Annotated[
        int, _of_model("N", "of them; they only have to show a collapse", shows=True)
    ] = 10
    revision: Annotated[str | None, _of_model("REVISION", "branch, tag or commit on the hub")] = (
        None
    )
    dtype: Annotated[DType, _of_model(shows=True)] = "float32"
    start_token: Annotated[
        StartToken, _of_model(text="whether a start token (BOS) opens prompts", shows=True)
    ] = "tokenizer"

    def spec(self) -> "StudySpec":
        """The tuning's facts, model and measurements as a study, with absolute paths.

        Raises:
            EditCollapseError: what is named cannot be used.
        """
        from editcollapse.config.spec import EvaluationSpec

        shared = {each.name for each in dataclasses.fields(AskedStudy)}
        given = {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if each.name in shared
        }
        study = AskedStudy(dataset=self.facts, method=["rome", "c_rome"], **given).spec()
        with said_with_flags():
            evaluation = EvaluationSpec(texts=study.evaluation.texts, max_texts=self.max_texts)
        name = f"tune-{study.name}"[:_LONGEST_NAME]
        return study.model_copy(update={"name": name, "evaluation": evaluation})


@dataclasses.dataclass(frozen=True, slots=True)
class TuningReport:
    """Result of ``tune``, for ``--json``."""

    model: str
    tuning_id: str
    preset: str
    """Lines of a study file."""
    facts: "FactCounts"
    best: "TuningTrialRow"
    """At the last rung, on facts to tune on."""
    held_out: "tuple[TuningTrialRow, ...]"
    """What a study takes without a tuning, and the best, by ROME and C-ROME."""
    seconds: float
    """Of edits and their evaluation, wherever and whenever they were computed."""
    report: str


@commands.command(
    rich_help_panel="Studies",
    epilog=examples(
        "tune demo/models/llama-induced --facts demo/counterfact.json \\",
        "    --covariance demo/corpus.txt --tokens 50000 --texts demo/texts.jsonl",
        "tune HuggingFaceTB/SmolLM2-135M --facts facts.json --trials 12 --budget 20",
        "tune my-model --facts facts.json --layers 2-12 --covariance samples --json",
    ),
)
@with_options(AskedTuning, "asked", required=("model", "facts"))
def tune(
    asked: AskedTuning, as_json: JsonOption = False, results: ResultsOption = "results"
) -> int:
    """Find layer and v* settings for a model that has no published ones.

    Settings are tried on facts that the model knows, by C-ROME, and what is best is measured on
    facts that were held out. A tuning that was stopped goes on where it was.
    """
    from editcollapse.study.plan import plan_study
    from editcollapse.study.results_folder import results_at
    from editcollapse.study.tuning import TuningSpec, plan_tuning

    with said_with_flags():
        wanted = TuningSpec(
            trials=asked.trials,
            facts=asked.n_facts,
            layers=asked.layers,
            budget_minutes=asked.budget,
        )
    study, folder = asked.spec(), results_at(results)
    # A mistake is found before a server starts.
    (tuning,) = plan_tuning(plan_study(study, folder.name), wanted)
    what = f"tuning of {tuning.model.setup.spec.name}"
    if run_flow(_flow, what, folder, study, wanted, folder.name, is_quiet=as_json) is None:
        return STOPPED
    report = _report(tuning, folder.name)
    if as_json:
        print_json(report)
    else:
        _show(report)
        print_next(f'sql "{_TRIED}"', results)
    return 0


def _flow() -> Any:
    from flows.tuning_flow import tune_settings

    return tune_settings


def _report(tuning: "ModelTuning", results: str) -> TuningReport:
    """The published tuning.

    Raises:
        ResultsError: it is not there.
    """
    from editcollapse.study.results_folder import results_at
    from editcollapse.study.tuning import best_trial, preset_block
    from reports.index import tuning_path
    from reports.tuning import compared, tried_seconds
    from storage.publish import folder_to_read
    from storage.readers import fact_counts, tuning_trials

    folder = folder_to_read(results_at(results))
    rows = tuning_trials(folder, tuning.tuning_id)
    best = best_trial(rows)
    return TuningReport(
        model=best.model,
        tuning_id=tuning.tuning_id,
        preset=preset_block(best),
        facts=fact_counts(folder, tuning.facts_job().fact_set_id),
        best=best,
        held_out=tuple(compared(rows)),
        seconds=tried_seconds(rows),
        report=f"{results}/{tuning_path(tuning.name)}",
    )


def _show(report: TuningReport) -> None:
    """Print what the facts are, before and after, and the preset."""
    from editcollapse.catalog.methods import method_title
    from reports.runs import duration
    from reports.tuning import known_in_words

    print_text(known_in_words(report.facts))
    names = (
        "efficacy",
        "behind a text",
        "first token, behind a text",
        "paraphrases",
        "locality",
        "worst ratio",
    )
    columns = [Column("trial"), Column("method"), Column("layer", is_number=True)]
    columns += [Column(name, is_number=True) for name in names]
    lines = [
        [
            Text("without a tuning" if row.trial == 0 else "tuned"),
            plain(method_title(row.method)),
            Text(str(row.layer)),
            *map(
                _score,
                (
                    row.efficacy,
                    row.efficacy_prefix_mean,
                    row.first_token_efficacy_prefix_mean,
                    row.generalization,
                    row.locality,
                ),
            ),
            Text(f"{row.worst_ratio:.4g}"),
        ]
        for row in report.held_out
    ]
    n_held_out = report.facts.n_held_out
    print_text(f"\n{report.model}: on {n_held_out} facts not used for tuning")
    print_table(columns, lines, console(), parted=True)
    if report.best.trial == 0:
        print_line("nothing that was tried is better than what a study takes without a tuning")
    print_line("\nto paste into a study file, beside the model's source:\n")
    for line in report.preset.splitlines():
        print_text(line)
    print_line(f"\ntime:    {duration(report.seconds)} of edits and their evaluation")
    print_line(f"report:  {shown(report.report)}")


def _score(value: float | None) -> Text:
    return Text("-" if value is None else f"{value:.2f}")
