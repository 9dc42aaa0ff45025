"""Jobs of a second moment: shards of token ids, the sums of each, probe keys, checkpoints, C."""

import logging
from pathlib import Path

from editcollapse.covariance.convergence import convergence_row, prefixed_keys, unit_directions
from editcollapse.covariance.second_moment import (
    MomentSum,
    SecondMoment,
    put_sum,
    read_sum,
    sum_keys,
)
from editcollapse.covariance.shards import budgeted_rows, check_budget, cut, put_shard, read_shard
from editcollapse.covariance.statistics import read_statistics
from editcollapse.data.corpora import open_corpus
from editcollapse.errors import MomentError
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.rows.study import ConvergenceRow, CovarianceRow
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.environment import ProvenanceClock
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import (
    CheckpointOrder,
    CorpusOrder,
    Manifest,
    MomentOrder,
    ProbesOrder,
    ShardOrder,
)
from editcollapse.study.plan import checkpoints
from editcollapse.units.prepare import Progress, load

logger = logging.getLogger(__name__)


def cut_corpus(order: CorpusOrder, on_tokens: Progress = None) -> Manifest:
    """Return the corpus as shards of token ids (``parts``), up to the token budget.

    Raises:
        MomentError: the corpus has no tokens.
        DatasetError: the corpus cannot be read.
    """
    clock = ProvenanceClock(order.key, "corpus")
    spec = order.covariance
    store = ArtifactStore(order.results)
    loaded = load(order.model)
    corpus = open_corpus(
        str(spec.source), text_field=spec.text_field, subset=spec.subset, split=spec.split
    )
    rows = budgeted_rows(
        loaded.encoder,
        corpus.documents(),
        n_tokens=spec.n_tokens,
        max_length=spec.max_length,
        start_token=spec.start_token,
    )
    parts, n_tokens = [], 0
    for shard in cut(rows, spec.shard_tokens):
        parts.append(put_shard(store, shard))
        n_tokens += shard.n_tokens
        if on_tokens is not None:
            on_tokens(n_tokens, spec.n_tokens)
    check_budget(n_tokens, spec.n_tokens)
    summary = f"{corpus.name} for {order.model.spec.name}: {n_tokens} tokens, {len(parts)} shards"
    provenance = clock.row(summary, n_tokens, "none")
    return Manifest(
        unit_id=order.key,
        summary=summary,
        rows=(store.put_rows("provenance", [provenance]),),
        parts=tuple(parts),
    )


def sum_shard(order: ShardOrder, on_tokens: Progress = None) -> Manifest:
    """Return the sums of k kT over one shard, a file for each layer (``parts``).

    Raises:
        MomentError: as ``sum_keys``.
    """
    clock = ProvenanceClock(order.key, "shard")
    store = ArtifactStore(order.results)
    loaded = load(order.model)
    shard = read_shard(store, order.shard)
    budget = tokens_per_forward(loaded.device, loaded.size(max(order.layers)), "moment")
    sums = sum_keys(loaded, order.layers, shard, budget, on_tokens)
    layers = ", ".join(map(str, order.layers))
    summary = f"sums of {order.model.spec.name}, layers {layers}, shard {order.label}"
    provenance = clock.row(summary, shard.n_tokens, str(loaded.device))
    return Manifest(
        unit_id=order.key,
        summary=summary,
        rows=(store.put_rows("provenance", [provenance]),),
        parts=tuple(put_sum(store, total) for total in sums),
    )


@float32_products()
def read_probes(order: ProbesOrder) -> Manifest:
    """Return the prefixed keys of the usable requests, a file for each layer (``parts``)."""
    clock = ProvenanceClock(order.key, "probes")
    store = ArtifactStore(order.results)
    loaded = load(order.model)
    rewrites, unusable = build_rewrites(loaded.encoder, order.templates, order.requests)
    if not rewrites:
        logger.warning("%s: no request can be a probe key of C", order.model.spec.name)
    budget = tokens_per_forward(loaded.device, loaded.size(max(order.layers)), "moment")
    keys = prefixed_keys(loaded, order.layers, rewrites, budget)
    summary = f"{len(rewrites)} probe keys of {order.model.spec.name}, {len(unusable)} left out"
    provenance = clock.row(summary, len(rewrites), str(loaded.device))
    return Manifest(
        unit_id=order.key,
        summary=summary,
        rows=(store.put_rows("provenance", [provenance]),),
        parts=tuple(store.put_tensors("probes", {"prefixed_key": key}) for key in keys),
    )


def read_checkpoint(order: CheckpointOrder) -> Manifest:
    """Return the directions at a checkpoint, its row, and the largest change (``values``).

    ``tensors`` and ``values`` are left out where C is still singular; ``values`` also where there
    is nothing to compare with.

    Raises:
        MomentError: there is no probe key, so nothing to stop by.
        ArtifactError: a sum is missing or its content has changed.
    """
    clock = ProvenanceClock(order.key, "checkpoint")
    store = ArtifactStore(order.results)
    probes = store.tensors(order.probes)["prefixed_key"]
    if len(probes) == 0:
        raise MomentError(
            f"`covariance.stop_change` needs probe keys, and {order.model.spec.name} can take none "
            "of the study's first requests. Leave it out, or give other requests."
        )
    total = MomentSum.empty(probes.shape[1], probes.device)
    for ref in order.sums:
        total.add_sum_(read_sum(store, ref))
    before = None if order.before is None else store.tensors(order.before)["directions"]
    now = unit_directions(total, probes, order.damping)
    row = convergence_row(
        order.covariance_id, order.probe_set_id, len(order.sums), total, probes, (before, now)
    )
    change = row.max_change
    summary = (
        f"{order.model.spec.name} layer {order.model.layer}, {total.n_tokens} tokens: "
        f"{'no change known' if change is None else f'directions changed by {change:.2e}'}"
    )
    logger.info("%s", summary)
    return Manifest(
        unit_id=order.key,
        summary=summary,
        rows=(
            store.put_rows("covariance_convergence", [row]),
            store.put_rows("provenance", [clock.row(summary, len(probes), "none")]),
        ),
        tensors=None if now is None else store.put_tensors("directions", {"directions": now}),
        values=() if change is None else (repr(change),),
    )


def prepare_moment(order: MomentOrder) -> Manifest:
    """Return C as a tensor file (none for the identity), its row and its convergence.

    Raises:
        MomentError: as ``read_statistics``, or the order of a corpus names no sums.
        ArtifactError: a sum is missing or its content has changed.
    """
    clock = ProvenanceClock(order.key, "covariance")
    spec = order.covariance
    store = ArtifactStore(order.results)
    moment: SecondMoment | None = None
    followed: list[ConvergenceRow] = []
    if spec.kind == "statistics":
        files_d_key = load(order.model).widths.d_key
        moment = read_statistics(Path(str(order.model.spec.statistics)), files_d_key)
    elif spec.kind == "corpus":
        moment, followed = _merged(order, store)
    tensors = None if moment is None else store.put_tensors("moments", {"moment": moment.matrix})
    source = str(order.model.spec.statistics if spec.kind == "statistics" else spec.source or "")
    row = CovarianceRow(
        covariance_id=order.covariance_id,
        model_id=order.model.model_id,
        layer=order.model.layer,
        kind=spec.kind,
        source=Path(source).name if Path(source).is_absolute() else source,
        source_digest=order.source_digest,
        n_tokens=0 if moment is None else moment.n_tokens,
        n_texts=0 if moment is None else moment.n_texts,
        damping=0.0 if moment is None else spec.damping,
        trace=0.0 if moment is None else float(moment.matrix.trace()),
        accumulation_error=None if moment is None else moment.accumulation_error,
        artifact_digest=None if tensors is None else tensors.digest,
    )
    summary = f"{spec.kind} second moment of {order.model.spec.name}, layer {order.model.layer}"
    provenance = clock.row(summary, row.n_tokens, "none")
    rows = [
        store.put_rows("covariances", [row]),
        store.put_rows("provenance", [provenance]),
        *order.convergence,
    ]
    if followed:
        rows.append(store.put_rows("covariance_convergence", followed))
    return Manifest(unit_id=order.key, summary=summary, rows=tuple(rows), tensors=tensors)


def _merged(order: MomentOrder, store: ArtifactStore) -> tuple[SecondMoment, list[ConvergenceRow]]:
    """Return C of the shards' sums, added in order, and a row for each checkpoint on the way."""
    if not order.sums:
        raise MomentError(
            f"the second moment of {order.model.spec.name}, layer {order.model.layer}, was asked "
            "of no shards. Sum the shards of its corpus first (covariance_units.sum_shard)."
        )
    probes = None if order.probes is None else store.tensors(order.probes)["prefixed_key"]
    looked_at = () if probes is None else checkpoints(len(order.sums))
    total: MomentSum | None = None
    before = None
    rows = []
    for n_shards, ref in enumerate(order.sums, start=1):
        part = read_sum(store, ref)
        if total is None:
            total = part
        else:
            total.add_sum_(part)
        if probes is not None and n_shards in looked_at:
            now = unit_directions(total, probes, order.covariance.damping)
            rows.append(
                convergence_row(
                    order.covariance_id,
                    order.probe_set_id,
                    n_shards,
                    total,
                    probes,
                    (before, now),
                )
            )
            before = now
    assert total is not None
    if rows and rows[-1].max_change is not None:
        logger.info(
            "%s layer %d: directions changed by %.2e at most, from %d to %d tokens",
            order.model.spec.name,
            order.model.layer,
            rows[-1].max_change,
            rows[-2].n_tokens,
            rows[-1].n_tokens,
        )
    return SecondMoment.of(total), rows
