"""A layer's second moment as scheduled jobs: samples or corpus, shards, probes, checkpoints, merge.

All shards are submitted before the first is waited for, so that several workers share them. With
a stop rule they are submitted up to the next checkpoint only.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from prefect import Task

from editcollapse.study.jobs import Job, Manifest
from editcollapse.study.locks import cached_manifest
from editcollapse.study.plan import CovariancePlan, checkpoints, has_settled
from flows.run.steps import JobList, moment_jobs
from tasks.covariance import (
    corpus_shards,
    covariance_checkpoint,
    own_samples,
    probe_keys,
    second_moment,
    shard_sums,
)


class RunsJobs(Protocol):
    """Protocol of what runs jobs, such as ``study_run.StudyRun``."""

    def compute(self, task: Task[[Any], Manifest], job: Job) -> Manifest:
        """Return a job's manifest."""

    def compute_all(self, task: Task[[Any], Manifest], jobs: Sequence[Job]) -> list[Manifest]:
        """Return the manifests of jobs that may run at the same time."""

    @property
    def listed(self) -> JobList:
        """The jobs that are listed."""


def measured_moments(
    run: RunsJobs, layers: Sequence[CovariancePlan], templates: Manifest
) -> list[Manifest]:
    """Return C of each layer that one pass over the corpus serves; it is made once for all.

    Where C of all is there already, neither corpus nor shards are looked at.

    Args:
        run: has listed ``moment_jobs`` of them.
        layers: each layer's part in the same pass.
        templates: what the templates unit returned.
    """
    first = layers[0]
    is_measured = first.moment.covariance.is_measured
    missing = [each for each in layers if is_measured and cached_manifest(each.moment) is None]
    if not missing:
        run.listed.correct(moment_jobs(layers), len(layers))
        return run.compute_all(second_moment, [each.moment for each in layers])
    corpus = _corpus(run, first)
    probes = run.compute(probe_keys, first.probes_job(templates))
    if first.moment.covariance.stop_change is None:
        run.listed.correct(first.n_shards_at_most, len(corpus.parts))
        sums = run.compute_all(shard_sums, first.shard_jobs(corpus))
        merges = [
            each.merge_job(sums, probes) if each in missing else each.moment for each in layers
        ]
        return run.compute_all(second_moment, merges)
    return [_until_settled(run, each, corpus, probes) for each in layers]


def _corpus(run: RunsJobs, moments: CovariancePlan) -> Manifest:
    """Return the corpus in shards; the model writes it where it is to be of its own samples."""
    job = moments.corpus_job()
    if not moments.n_sample_jobs:
        return run.compute(corpus_shards, job)
    if cached_manifest(job) is not None:
        run.listed.correct(moments.n_sample_jobs, 0)
        return run.compute(corpus_shards, job)
    written = run.compute_all(own_samples, moments.sample_jobs())
    return run.compute(corpus_shards, moments.corpus_job(written))


def _until_settled(
    run: RunsJobs, moments: CovariancePlan, corpus: Manifest, probes: Manifest
) -> Manifest:
    """Return C of as many shards as the stop rule wants."""
    stop_change = moments.moment.covariance.stop_change
    assert stop_change is not None
    jobs = moments.shard_jobs(corpus)
    sums: list[Manifest] = []
    looked_at: list[Manifest] = []
    changes: list[float | None] = []
    for n_shards in checkpoints(len(jobs)):
        sums += run.compute_all(shard_sums, jobs[len(sums) : n_shards])
        before = looked_at[-1] if looked_at else None
        found = run.compute(covariance_checkpoint, moments.checkpoint_job(sums, probes, before))
        looked_at.append(found)
        changes.append(float(found.values[0]) if found.values else None)
        if has_settled(changes, stop_change):
            break
    n_shards = moments.n_shards_at_most
    run.listed.correct(n_shards + len(checkpoints(n_shards)), len(sums) + len(looked_at))
    return run.compute(second_moment, moments.merge_job(sums, probes, looked_at))
