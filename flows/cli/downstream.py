"""The command ``downstream``: what edited models can still do beside text."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editcollapse.cli.console import print_json, print_line
from editcollapse.cli.mistakes import STOPPED
from flows.cli.asked_study import AskedStudy, opened, with_study
from flows.cli.options import (
    JsonOption,
    MeasureOption,
    RatioOption,
    ResultsOption,
    ThresholdOption,
    examples,
    options_of,
    rule_of,
    said_with_flags,
)
from flows.cli.output.downstream import print_downstream
from flows.cli.output.next_step import print_next

if TYPE_CHECKING:
    from editcollapse.config.downstream import DownstreamSpec
    from editcollapse.rows.collapse_rule import CollapseRule
    from storage.downstream import DownstreamCorrelation, DownstreamScore

commands = typer.Typer()
_models = options_of("Which models are asked, beside the unedited ones")
_tasks = options_of("How tasks are asked")


@dataclasses.dataclass(frozen=True, slots=True)
class DownstreamReport:
    """What the tasks of one run scored, for ``--json``."""

    study_id: str
    rule: "CollapseRule"
    scores: "tuple[DownstreamScore, ...]"
    correlations: "tuple[DownstreamCorrelation, ...]"


@commands.command(
    rich_help_panel="Studies",
    epilog=examples(
        "downstream studies/demo.toml --tasks demo/tasks/demo_facts.yaml",
        "downstream studies/demo.toml --tasks demo/tasks/demo_facts.yaml \\",
        "    --tasks demo/tasks/demo_words.yaml --worst 5 --sample 20",
        "downstream studies/smollm2.toml --tasks hellaswag --tasks arc_easy --items 200",
        "downstream studies/demo.toml --tasks piqa --worst 0 --sample 0 --exported edited-model",
        "\nTasks by name need the Hugging Face hub, or its cache; YAML with local data does not.",
    ),
)
@with_study
def downstream(
    asked: AskedStudy,
    tasks: Annotated[
        list[str],
        _tasks(
            "NAME_OR_YAML",
            "task, group or tag of lm_eval, or a YAML file with local data; may be given several "
            "times",
        ),
    ],
    items: Annotated[int | None, _tasks("N", "of each task at most (default: all)")] = None,
    shots: Annotated[
        int | None, _tasks("N", "examples before each item (default: as the task says)")
    ] = None,
    worst: Annotated[
        int, _models("N", "edits of each model with the largest perplexity", shows=True)
    ] = 3,
    sample: Annotated[
        int,
        _models("N", "others of each model, spread over the log of the perplexity", shows=True),
    ] = 10,
    edit: Annotated[
        list[str] | None,
        _models("ID", "edit by id, or by how it begins; may be given several times"),
    ] = None,
    sequence: Annotated[
        list[str] | None,
        _models("ID[:STEP]", "sequence at its last checkpoint, or after a step; likewise"),
    ] = None,
    exported: Annotated[
        list[str] | None, _models("DIR_OR_ID", "an edited model as a folder; likewise")
    ] = None,
    threshold: ThresholdOption = None,
    ratio: RatioOption = None,
    measure: MeasureOption = None,
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """Ask downstream tasks (lm-evaluation-harness) of a study's edited models, in memory.

    The study has been run; what was asked before is not asked again. Accuracy stands beside
    perplexity, with their rank correlation.
    """
    from flows.cli.command_run import run_flow

    spec, folder = opened(asked, results)
    rule = rule_of(spec.collapse.rule, threshold, ratio, measure)
    wanted = _spec(
        tasks=tasks,
        items=items,
        shots=shots,
        worst=worst,
        sample=sample,
        edits=edit or (),
        sequences=sequence or (),
        exported=exported or (),
    )
    from flows.run.downstream_plan import plan_downstream

    plan = plan_downstream(spec, wanted, folder.name)  # a mistake is found before a server starts
    what = f"downstream tasks of {spec.name}"
    given = (spec, wanted, folder.name)
    study_id = run_flow(_judge_downstream, what, folder, *given, is_quiet=as_json)
    if study_id is None:
        return STOPPED
    from storage.downstream import downstream_correlations, downstream_scores

    jobs = plan.all_jobs(plan.stored_tasks())
    scores = downstream_scores(folder.here, study_id, rule, jobs)
    correlations = downstream_correlations(folder.here, study_id, rule, jobs)
    if as_json:
        print_json(DownstreamReport(study_id, rule, scores, correlations))
    else:
        print_downstream(scores, correlations, rule)
        print_line("")
        print_next('sql "from downstream_outcomes"', results)
    return 0


def _spec(**given: Any) -> "DownstreamSpec":
    from editcollapse.config.downstream import DownstreamSpec

    with said_with_flags():
        return DownstreamSpec.model_validate(
            {name: tuple(each) if isinstance(each, list) else each for name, each in given.items()}
        )


def _judge_downstream() -> Any:
    from flows.downstream import judge_downstream

    return judge_downstream
