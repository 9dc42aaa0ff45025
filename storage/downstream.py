"""Queries for downstream tasks: what can be asked of a study's edits, and what was scored."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from editcollapse.errors import ResultsError
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.study.downstream_jobs import DownstreamJob
from editcollapse.study.known_updates import KnownEdit, KnownSequence
from storage.ask import ask_named
from storage.known_updates import Wanted, known_edits, known_sequences


@dataclasses.dataclass(frozen=True, slots=True)
class DownstreamScore:
    """One metric of one task, beside what is known of the edit."""

    model: str | None
    """Its name in the study; None for an exported one."""
    kind: str
    method: str | None
    subject: str | None
    task: str
    metric: str
    filter: str
    score: float | None
    score_before: float | None
    score_stderr: float | None
    perplexity_ratio: float | None
    collapsed: bool | None
    text_change: float | None
    n_samples: int
    n_without_answer: int
    label: str
    edit_id: str | None
    sequence_id: str | None
    step: int | None
    model_id: str
    score_set_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class DownstreamCorrelation:
    """Rank correlation of one metric with one surrogate, over a model's edits."""

    model: str
    task: str
    metric: str
    filter: str
    surrogate: str
    n_edits: int
    spearman: float | None
    spearman_low: float | None
    spearman_high: float | None
    n_shot: int | None
    sample_limit: int | None


def edits_of_study(results: Path, study_id: str) -> list[KnownEdit]:
    """Return all single edits of a study, as last published.

    Raises:
        ResultsError: there are no results yet.
    """
    return known_edits(results, Wanted(study=study_id))


def state_of_sequence(
    results: Path, study_id: str, name: str, step: int | None
) -> tuple[KnownSequence, int]:
    """Return a sequence of a study, and the step that is meant.

    Args:
        results: the results folder.
        study_id: the study.
        name: the sequence's id, or how it begins.
        step: a step; None for the last checkpoint.

    Raises:
        ResultsError: there is no such sequence, or none of its steps has been measured.
    """
    found = known_sequences(results, Wanted(id=name, study=study_id))
    if len(found) != 1:
        many = f"{len(found)} sequences of this study have ids that begin with {name!r}"
        none = f"no sequence of this study has an id that begins with {name!r}"
        raise ResultsError(f"{many if found else none}. View sequence_outcomes has their ids.")
    if step is not None:
        return found[0], step
    asked = {"sequence_id": found[0].sequence_id}
    steps = ask_named(results, "checkpoint_steps", asked)["step"].to_list()
    if not steps:
        raise ResultsError(f"sequence {name!r} has no checkpoint yet. Run its study again.")
    return found[0], int(steps[-1])


def downstream_scores(
    results: Path, study_id: str, rule: CollapseRule, jobs: Sequence[DownstreamJob]
) -> tuple[DownstreamScore, ...]:
    """Return the scores that some jobs have left, as last published, in the view's order.

    Args:
        results: the results folder.
        study_id: the study whose edits were asked.
        rule: when an edit counts as a collapse.
        jobs: what was asked.

    Raises:
        ResultsError: there are no results yet.
    """
    asked = {
        "study_id": study_id,
        "score_sets": [job.score_set_id for job in jobs],
        **dataclasses.asdict(rule),
    }
    frame = ask_named(results, "downstream_scores", asked)
    return tuple(DownstreamScore(**row) for row in frame.iter_rows(named=True))


def downstream_correlations(
    results: Path, study_id: str, rule: CollapseRule, jobs: Sequence[DownstreamJob]
) -> tuple[DownstreamCorrelation, ...]:
    """Return the correlations of the tasks that some jobs have asked, over all edits ever asked.

    Args:
        results: the results folder.
        study_id: the study whose edits were asked.
        rule: its measure is that of the perplexities.
        jobs: what was asked, all in the same way.

    Raises:
        ResultsError: there are no results yet.
    """
    scores = downstream_scores(results, study_id, rule, jobs)
    asked = {
        "study_id": study_id,
        "measure": rule.measure,
        "harness_version": jobs[0].harness_version,
        "sample_limit": jobs[0].limit,
        "tasks": sorted(
            {each.task for each in scores}
            | {job.task.digest for job in jobs if job.task.digest is not None}
        ),
    }
    frame = ask_named(results, "downstream_correlations", asked)
    return tuple(DownstreamCorrelation(**row) for row in frame.iter_rows(named=True))
