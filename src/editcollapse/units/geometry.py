"""A layer's geometry under C: Cholesky factors and W C Wᵀ, made once in a process.

Edits, forecasts and the anatomy solve with it. A sweep comes back to every layer with every batch;
of a large model as many layers are kept as there is room for.
"""

import threading

from editcollapse.covariance.held_out import HeldOut
from editcollapse.covariance.second_moment import MomentSolver, read_moment
from editcollapse.forecast.bounds import LayerGeometry
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.models.loading import LoadedModel
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import EditJob

KEPT_BYTES = 1 << 30
"""Of the factors that are kept, at most; one layer's are kept in any case."""
_FLOAT64_BYTES = 8
_FACTORS = 3
"""Of a layer: C's, and one for either half of its tokens."""

_kept: dict[str, LayerGeometry] = {}
"""By covariance id, of one model."""
_kept_model: list[str] = []
_lock = threading.Lock()


def kept_geometry(store: ArtifactStore, loaded: LoadedModel, edits: EditJob) -> LayerGeometry:
    """Return the geometry of a job's layer, made once in a process where there is room.

    Raises:
        MomentError: C has no Cholesky factor.
        ArtifactError: C's file is missing, has changed, or was written by an earlier version.
    """
    with _lock:
        if _kept_model != [loaded.model_id]:
            _kept.clear()
            _kept_model[:] = [loaded.model_id]
        known = _kept.get(edits.covariance_id)
        if known is None:
            solver = stored_solver(store, edits.moment, edits.damping)
            known = LayerGeometry.of(HookedLayer(loaded, edits.model.layer), solver)
            # The last one goes: a sweep comes by in a circle, and the first ones are next.
            room = KEPT_BYTES // (_FACTORS * _FLOAT64_BYTES * loaded.widths.d_key**2)
            while _kept and len(_kept) >= room:
                _kept.popitem()
            _kept[edits.covariance_id] = known
        return known


def stored_solver(store: ArtifactStore, ref: ArtifactRef | None, damping: float) -> MomentSolver:
    """Return the solver with a C that is stored; its halves are read when a forecast needs them.

    Args:
        store: of the results folder.
        ref: C's file; None for the identity.
        damping: as edits solve with.

    Raises:
        MomentError: C has no Cholesky factor.
        ArtifactError: C's file is missing, has changed, or was written by an earlier version.
    """
    if ref is None:
        return MomentSolver(None)
    moment = read_moment(store, ref)
    held_out = HeldOut(lambda: read_moment(store, ref).halves(), damping)
    return MomentSolver(
        moment.matrix,
        damping,
        n_tokens=moment.n_tokens,
        held_out=None if moment.half is None else held_out,
    )
