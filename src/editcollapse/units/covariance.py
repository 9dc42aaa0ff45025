"""Jobs of a second moment: shards of token ids, the sums of each, probe keys, checkpoints, C."""

import logging
from pathlib import Path

from editcollapse.covariance.condition import condition_number
from editcollapse.covariance.convergence import convergence_row, prefixed_keys, unit_directions
from editcollapse.covariance.second_moment import (
    HalvedSum,
    MomentSum,
    SecondMoment,
    put_moment,
    put_sum,
    read_sum,
    sum_keys,
)
from editcollapse.covariance.shards import budgeted_rows, check_budget, cut, put_shard, read_shard
from editcollapse.covariance.statistics import read_statistics
from editcollapse.data.corpora import corpus_of
from editcollapse.errors import MomentError
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.rows.study import ConvergenceRow, CovarianceRow
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import (
    CheckpointJob,
    CorpusJob,
    CovarianceJob,
    Manifest,
    ProbesJob,
    ShardJob,
)
from editcollapse.study.plan import checkpoints
from editcollapse.units.prepare import Progress, load

logger = logging.getLogger(__name__)


def cut_corpus(job: CorpusJob, on_tokens: Progress = None) -> Manifest:
    """Return the corpus as shards of token ids (``parts``), up to the token budget.

    Raises:
        MomentError: the corpus has no tokens.
        DatasetError: the corpus cannot be read.
    """
    clock = job.clock("corpus", job.model)
    spec = job.covariance
    store = ArtifactStore(job.results)
    loaded = load(job.model)
    corpus = corpus_of(spec)
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
    summary = f"{corpus.name} for {job.model.spec.name}: {n_tokens} tokens, {len(parts)} shards"
    provenance = clock.row(summary, n_tokens, "none")
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(store.put_rows("provenance", [provenance]),),
        parts=tuple(parts),
    )


def sum_shard(job: ShardJob, on_tokens: Progress = None) -> Manifest:
    """Return the sums of k kT over one shard, a file for each layer (``parts``).

    Raises:
        MomentError: as ``sum_keys``.
    """
    clock = job.clock("shard", job.model)
    store = ArtifactStore(job.results)
    loaded = load(job.model)
    shard = read_shard(store, job.shard)
    budget = tokens_per_forward(loaded.device, loaded.size(max(job.layers)), "moment")
    sums = sum_keys(loaded, job.layers, shard, budget, on_tokens)
    layers = ", ".join(map(str, job.layers))
    summary = f"sums of {job.model.spec.name}, layers {layers}, shard {job.label}"
    provenance = clock.row(summary, shard.n_tokens, str(loaded.device))
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(store.put_rows("provenance", [provenance]),),
        parts=tuple(put_sum(store, total) for total in sums),
    )


@float32_products()
def read_probes(job: ProbesJob) -> Manifest:
    """Return the prefixed keys of the usable requests, a file for each layer (``parts``)."""
    clock = job.clock("probes", job.model)
    store = ArtifactStore(job.results)
    loaded = load(job.model)
    rewrites, unusable = build_rewrites(loaded.encoder, job.templates, job.requests)
    if not rewrites:
        logger.warning("%s: no request can be a probe key of C", job.model.spec.name)
    budget = tokens_per_forward(loaded.device, loaded.size(max(job.layers)), "moment")
    keys = prefixed_keys(loaded, job.layers, rewrites, budget)
    summary = f"{len(rewrites)} probe keys of {job.model.spec.name}, {len(unusable)} left out"
    provenance = clock.row(summary, len(rewrites), str(loaded.device))
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(store.put_rows("provenance", [provenance]),),
        parts=tuple(store.put_tensors("probes", {"prefixed_key": key}) for key in keys),
    )


def read_checkpoint(job: CheckpointJob) -> Manifest:
    """Return the directions at a checkpoint, its row, and the largest change (``values``).

    ``tensors`` and ``values`` are left out where C is still singular; ``values`` also where there
    is nothing to compare with.

    Raises:
        MomentError: there is no probe key, so nothing to stop by.
        ArtifactError: a sum is missing or its content has changed.
    """
    clock = job.clock("checkpoint", job.model)
    store = ArtifactStore(job.results)
    probes = store.tensors(job.probes)["prefixed_key"]
    if len(probes) == 0:
        raise MomentError(
            f"`covariance.stop_change` needs probe keys, and {job.model.spec.name} can take none "
            "of the study's first requests. Leave it out, or give other requests."
        )
    total = MomentSum.empty(probes.shape[1], probes.device)
    for ref in job.sums:
        total.add_sum_(read_sum(store, ref))
    before = None if job.before is None else store.tensors(job.before)["directions"]
    now = unit_directions(total, probes, job.damping)
    row = convergence_row(
        job.covariance_id, job.probe_set_id, len(job.sums), total, probes, (before, now)
    )
    change = row.max_change
    summary = (
        f"{job.model.spec.name} layer {job.model.layer}, {total.n_tokens} tokens: "
        f"{'no change known' if change is None else f'directions changed by {change:.2e}'}"
    )
    logger.info("%s", summary)
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("covariance_convergence", [row]),
            store.put_rows("provenance", [clock.row(summary, len(probes), "none")]),
        ),
        tensors=None if now is None else store.put_tensors("directions", {"directions": now}),
        values=() if change is None else (repr(change),),
    )


def prepare_moment(job: CovarianceJob) -> Manifest:
    """Return C as a tensor file (none for the identity), its row and its convergence.

    Raises:
        MomentError: as ``read_statistics``, or the job of a corpus names no sums.
        ArtifactError: a sum is missing or its content has changed.
    """
    clock = job.clock("covariance", job.model)
    spec = job.covariance
    store = ArtifactStore(job.results)
    moment: SecondMoment | None = None
    followed: list[ConvergenceRow] = []
    if spec.kind == "statistics":
        files_d_key = load(job.model).widths.d_key
        moment = read_statistics(Path(str(job.model.spec.statistics)), files_d_key)
    elif spec.kind == "corpus":
        moment, followed = _merged(job, store)
    tensors = None if moment is None else put_moment(store, moment)
    source = str(job.model.spec.statistics if spec.kind == "statistics" else spec.source or "")
    row = CovarianceRow(
        covariance_id=job.covariance_id,
        model_id=job.model.model_id,
        layer=job.model.layer,
        kind=spec.kind,
        source=Path(source).name if Path(source).is_absolute() else source,
        source_digest=job.source_digest,
        n_tokens=0 if moment is None else moment.n_tokens,
        n_texts=0 if moment is None else moment.n_texts,
        damping=0.0 if moment is None else spec.damping,
        trace=0.0 if moment is None else float(moment.matrix.trace()),
        accumulation_error=None if moment is None else moment.accumulation_error,
        artifact_digest=None if tensors is None else tensors.digest,
        tokens_per_d_key=None if moment is None else moment.n_tokens / len(moment.matrix),
        condition_number=None if moment is None else condition_number(moment.matrix),
    )
    summary = f"{spec.kind} second moment of {job.model.spec.name}, layer {job.model.layer}"
    provenance = clock.row(summary, row.n_tokens, "none")
    rows = [
        store.put_rows("covariances", [row]),
        store.put_rows("provenance", [provenance]),
        *job.convergence,
    ]
    if followed:
        rows.append(store.put_rows("covariance_convergence", followed))
    return Manifest(unit_id=job.key, summary=summary, rows=tuple(rows), tensors=tensors)


def _merged(job: CovarianceJob, store: ArtifactStore) -> tuple[SecondMoment, list[ConvergenceRow]]:
    """Return C of the shards' sums, added in order, and a row for each checkpoint on the way."""
    if not job.sums:
        raise MomentError(
            f"the second moment of {job.model.spec.name}, layer {job.model.layer}, was asked "
            "of no shards. Sum the shards of its corpus first (covariance_units.sum_shard)."
        )
    probes = None if job.probes is None else store.tensors(job.probes)["prefixed_key"]
    looked_at = () if probes is None else checkpoints(len(job.sums))
    first = read_sum(store, job.sums[0])
    total = HalvedSum.empty(first.slabs[0].shape[1], first.slabs[0].device)
    before = None
    rows = []
    for n_shards, ref in enumerate(job.sums, start=1):
        total.add_shard_(first if n_shards == 1 else read_sum(store, ref))
        if probes is not None and n_shards in looked_at:
            now = unit_directions(total.whole, probes, job.covariance.damping)
            rows.append(
                convergence_row(
                    job.covariance_id,
                    job.probe_set_id,
                    n_shards,
                    total.whole,
                    probes,
                    (before, now),
                )
            )
            before = now
    if rows and rows[-1].max_change is not None:
        logger.info(
            "%s layer %d: directions changed by %.2e at most, from %d to %d tokens",
            job.model.spec.name,
            job.model.layer,
            rows[-1].max_change,
            rows[-2].n_tokens,
            rows[-1].n_tokens,
        )
    return SecondMoment.of(total), rows
