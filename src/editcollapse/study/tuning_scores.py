"""The score of a trial: efficacy, generalization and locality of its edits, none of them damaging.

Source: the harmonic mean of efficacy, generalization and locality is ROME's score S (arXiv
2202.05262, sec. 3.4). First-token subjects are asked behind a prefix: consistent keys reach them
only there (The Fall of ROME, arXiv 2406.11263, sec. 5).
"""

import dataclasses
import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import polars as pl

from editcollapse.errors import ArtifactError
from editcollapse.rows.collapse_rule import DAMAGE_RATIO, CollapseRule
from editcollapse.rows.frames import rows_of
from editcollapse.rows.study import EditRow, MeasurementRow
from editcollapse.rows.tuning import TrialScores
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import Manifest

_LEAST = 0.01
"""What a part of the score counts at least: else one that is 0 would hide all others."""


@dataclasses.dataclass(frozen=True, slots=True)
class TrialEdits:
    """A batch of a trial's edits, as it was measured."""

    edits: tuple[EditRow, ...]
    measurements: tuple[MeasurementRow, ...]
    seconds: float
    """What both jobs took when they were computed."""

    @classmethod
    def of(cls, store: ArtifactStore, edited: Manifest, measured: Manifest) -> "TrialEdits":
        """Return a batch, given what its two jobs returned.

        Raises:
            ArtifactError: a row file is missing or has changed.
        """
        took = [row for each in (edited, measured) for row in _rows(store, each, "provenance")]
        return cls(
            edits=tuple(_rows(store, edited, "edits")),
            measurements=tuple(_rows(store, measured, "measurements")),
            seconds=sum(row.duration_s for row in took),
        )


def scores_of(
    batches: Sequence[TrialEdits],
    method: str,
    first_token: frozenset[str],
    unedited_perplexity: float,
    rule: CollapseRule,
) -> TrialScores:
    """Return the scores of a trial's edits by one method.

    Args:
        batches: the trial's.
        method: whose edits count.
        first_token: ids of the requests whose subject is the prompt's first token.
        unedited_perplexity: on the same texts.
        rule: when an edit counts as a collapse.

    Raises:
        ArtifactError: there is no measured edit of the method.
    """
    edits = {row.edit_id: row for batch in batches for row in batch.edits if row.method == method}
    pairs = [
        (edits[row.edit_id], row)
        for batch in batches
        for row in batch.measurements
        if row.edit_id in edits
    ]
    if not pairs:
        raise ArtifactError(
            f"a trial has no measured edit by {method}. Run the same command again."
        )
    first = [row for edit, row in pairs if edit.request_id in first_token]
    others = [row for edit, row in pairs if edit.request_id not in first_token]
    both = [row for _, row in pairs]
    efficacy, behind = _mean(others, "efficacy"), _mean(first, "efficacy_prefix_mean")
    generalization, locality = _mean(both, "generalization"), _mean(both, "locality")
    ratios = [row.perplexity / unedited_perplexity for row in both]
    n_damaged = sum(not ratio <= DAMAGE_RATIO for ratio in ratios)  # nan is damage
    score = objective((efficacy, behind, generalization, locality))
    return TrialScores(
        n_facts=len(pairs),
        n_first_token=len(first),
        efficacy=efficacy,
        efficacy_prefix_mean=_mean(others, "efficacy_prefix_mean"),
        first_token_efficacy=_mean(first, "efficacy"),
        first_token_efficacy_prefix_mean=behind,
        generalization=generalization,
        locality=locality,
        clamp_share=fmean(bool(edit.clamp_hit) for edit, _ in pairs),
        worst_ratio=max(ratios, key=lambda ratio: (math.isnan(ratio), ratio)),
        n_damaged=n_damaged,
        n_collapsed=sum(bool(rule.collapsed(row.perplexity, unedited_perplexity)) for row in both),
        objective=0.0 if n_damaged else score,
        seconds=sum(batch.seconds for batch in batches),
    )


def objective(parts: Sequence[float | None]) -> float:
    """Return the harmonic mean of the parts that were measured; fractions 0-1, at least 0.01 each.

    Args:
        parts: None where a fact set has no such fact or probe.
    """
    known = [max(part, _LEAST) for part in parts if part is not None]
    return len(known) / sum(1 / part for part in known) if known else 0.0


def unedited_perplexity(store: ArtifactStore, unedited: Manifest) -> float:
    """Return the unedited model's perplexity, given what its job returned.

    Raises:
        ArtifactError: a row file is missing or has changed.
    """
    (row,) = _rows(store, unedited, "base_perplexities")
    return float(row.perplexity)


def _rows(store: ArtifactStore, manifest: Manifest, table: str) -> list[Any]:
    """Return a job's rows of one table."""
    frames = [store.frame(ref) for ref in manifest.rows if ref.table == table]
    if not frames:
        raise ArtifactError(f"{manifest.unit_id} left no {table}. Run the study again.")
    return list(rows_of(table, pl.concat(frames)))


def _mean(rows: Sequence[MeasurementRow], name: str) -> float | None:
    """Return the mean of a score over the edits that have it."""
    found = [value for row in rows if (value := getattr(row, name)) is not None]
    return fmean(found) if found else None
