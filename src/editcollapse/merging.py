"""The unit of one second moment: merge the sums of the shards, or read C, or leave it out."""

import logging
from pathlib import Path

from editcollapse.artifacts import ArtifactStore
from editcollapse.checkpoints import checkpoints
from editcollapse.convergence import convergence_row, unit_directions
from editcollapse.errors import MomentError
from editcollapse.moment_orders import MomentOrder
from editcollapse.moments import SecondMoment
from editcollapse.orders import Manifest
from editcollapse.outcomes import ConvergenceRow, CovarianceRow
from editcollapse.preparing import load
from editcollapse.runtime import ProvenanceClock
from editcollapse.statistics_files import read_statistics
from editcollapse.sums import MomentSum, read_sum

logger = logging.getLogger(__name__)


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
