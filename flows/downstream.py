"""Downstream tasks by lm-evaluation-harness, asked of a study's edits and of exported models.

An update stands in the weights of the resident model while a task is asked; nothing is copied and
no model is written. Each task of each model is cached by content: a second run asks nothing.
"""

import logging
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from prefect import State, flow

from editcollapse.config.downstream import DownstreamSpec
from editcollapse.config.study_file import with_absolute_paths
from editcollapse.study.downstream_jobs import DownstreamModel
from editcollapse.study.results_folder import results_at
from flows.observe.run_names import dated
from flows.observe.run_page import report_link, shown_progress
from flows.run.downstream_plan import plan_downstream
from flows.run.outcome import CACHED, completed
from flows.run.steps import Step
from flows.run.study_form import StudyForm
from flows.run.study_run import StudyRun, for_each_model
from flows.run.submit import one_at_a_time, tag_study
from reports.page import write_report
from storage.downstream import DownstreamScore, downstream_scores
from tasks.downstream import ask_task

logger = logging.getLogger(__name__)

_FIRST_METRICS = ("acc", "exact_match", "acc_norm", "f1")
"""Metrics that stand for a task where it has several, the first of them that it has."""


@flow(
    name="judge-downstream",
    flow_run_name=dated("downstream {study.name}"),
    description="Ask lm-evaluation-harness' tasks of a study's edited models, in memory.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def judge_downstream(
    study: StudyForm, downstream: DownstreamSpec, results: str = "results"
) -> State[str]:
    """Ask tasks of a study's models, unedited and edited, and return the study's id.

    Args:
        study: one that has been run; paths are absolute, or relative to the working directory.
        downstream: the tasks, and which edits are asked.
        results: folder or URL that the study was written to.

    Returns:
        A state with the study's id, which is what a call of the flow returns.

    Raises:
        EditCollapseError: an input is missing or unusable, or lm_eval is not installed.
    """
    plan = plan_downstream(with_absolute_paths(study, Path.cwd()), downstream, results)
    tasks = plan.stored_tasks()
    step = Step(lambda _study, model: len(plan.of(model)) * len(tasks))
    run = StudyRun(plan.study, (step,), n_last=len(plan.exported) * len(tasks))

    def ask(models: Sequence[DownstreamModel]) -> None:
        for done in run.compute_all(ask_task, plan.jobs(models, tasks)):
            run.rows.add(done.rows)

    tag_study(plan.study)
    logger.info(CACHED)
    with shown_progress("downstream", plan.study.study.name), run.recording():
        label = ", ".join(task.name for task in tasks)
        for_each_model(run, lambda model: ask(plan.of(model)), label)
        ask(plan.exported)
        run.rows.publish()
    name, study_id = plan.study.study.name, plan.study.study_id
    rule = plan.study.study.collapse.rule
    write_report(results_at(plan.study.results), study_id, rule)
    found = downstream_scores(run.store.here, study_id, rule, plan.all_jobs(tasks))
    report = report_link(plan.study.results, name)
    return completed(study_id, " ".join(said_of(found)), run.tally, report)


def said_of(found: Sequence[DownstreamScore]) -> Iterator[str]:
    """Yield a sentence for each model and task: before, after collapses, after other edits."""
    rows = first_metrics(found)
    for model, task in dict.fromkeys(
        (row.model, row.task) for row in rows if row.model is not None
    ):
        own = [row for row in rows if (row.model, row.task) == (model, task)]
        before = next((row.score for row in own if row.kind == "unedited"), None)
        parts = [f"{_shown(before)} unedited"]
        for name, collapsed in (("collapsed", True), ("other", False)):
            of = [row for row in own if row.kind != "unedited" and row.collapsed is collapsed]
            scores = [row.score for row in of if row.score is not None]
            if of:
                parts.append(
                    f"{_shown(statistics.median(scores) if scores else None)} the median of "
                    f"{len(of)} {name}"
                )
        yield f"{model}, {task} {own[0].metric}: {', '.join(parts)}."


def first_metrics(found: Sequence[DownstreamScore]) -> list[DownstreamScore]:
    """Return the rows of one metric a task: the first of ``_FIRST_METRICS`` that it has."""
    metrics: dict[str, set[tuple[str, str]]] = {}
    for row in found:
        metrics.setdefault(row.task, set()).add((row.metric, row.filter))
    first = {task: min(those, key=_rank) for task, those in metrics.items()}
    return [row for row in found if (row.metric, row.filter) == first[row.task]]


def _rank(metric: tuple[str, str]) -> tuple[int, tuple[str, str]]:
    name, _ = metric
    known = name in _FIRST_METRICS
    return (_FIRST_METRICS.index(name) if known else len(_FIRST_METRICS), metric)


def _shown(score: float | None) -> str:
    return "no number" if score is None else f"{score:.3g}"
