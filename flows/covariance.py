"""A layer's second moment as scheduled units: corpus, shards, probe keys, checkpoints, merge.

All shards are submitted before the first is waited for, so that several workers share them. With
a stop rule they are submitted up to the next checkpoint only.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from prefect import Task

from editcollapse.checkpoints import checkpoints, has_settled
from editcollapse.once import left_behind
from editcollapse.orders import Manifest, Order
from editcollapse.passes import MomentPass
from tasks.covariance import (
    corpus_shards,
    covariance_checkpoint,
    probe_keys,
    second_moment,
    shard_sums,
)


class Runner(Protocol):
    """What runs units; ``study_run.StudyRun`` is one."""

    def compute(self, task: Task[[Any], Manifest], order: Order) -> Manifest:
        """Return a unit's manifest."""

    def compute_all(self, task: Task[[Any], Manifest], orders: Sequence[Order]) -> list[Manifest]:
        """Return the manifests of units that may run at the same time."""

    def expect(self, units: int) -> None:
        """Change how many units there are to run."""


def units_at_most(moments: MomentPass) -> int:
    """Return how many units come before the merge, if none of them is skipped."""
    if moments.moment.covariance.kind != "corpus":
        return 0
    return 2 + moments.n_shards_at_most


def measured_moment(run: Runner, moments: MomentPass, templates: Manifest) -> Manifest:
    """Return C of one layer; where it is there already, neither corpus nor shards are looked at."""
    if moments.moment.covariance.kind != "corpus" or left_behind(moments.moment) is not None:
        run.expect(-units_at_most(moments))
        return run.compute(second_moment, moments.moment)
    corpus = run.compute(corpus_shards, moments.corpus_order())
    run.expect(len(corpus.parts) - moments.n_shards_at_most)
    probes = run.compute(probe_keys, moments.probes_order(templates))
    if moments.moment.covariance.stop_change is None:
        sums = run.compute_all(shard_sums, moments.shard_orders(corpus))
        return run.compute(second_moment, moments.merge_order(sums, probes))
    return _until_settled(run, moments, corpus, probes)


def _until_settled(
    run: Runner, moments: MomentPass, corpus: Manifest, probes: Manifest
) -> Manifest:
    """Return C of as many shards as the stop rule wants."""
    stop_change = moments.moment.covariance.stop_change
    assert stop_change is not None
    orders = moments.shard_orders(corpus)
    sums: list[Manifest] = []
    looked_at: list[Manifest] = []
    changes: list[float | None] = []
    for n_shards in checkpoints(len(orders)):
        run.expect(1)
        sums += run.compute_all(shard_sums, orders[len(sums) : n_shards])
        before = looked_at[-1] if looked_at else None
        found = run.compute(covariance_checkpoint, moments.checkpoint_order(sums, probes, before))
        looked_at.append(found)
        changes.append(float(found.values[0]) if found.values else None)
        if has_settled(changes, stop_change):
            break
    run.expect(len(sums) - len(orders))
    return run.compute(second_moment, moments.merge_order(sums, probes, looked_at))
