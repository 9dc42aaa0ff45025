"""The geometry of layers, kept in a process: a Cholesky factor of C and W C Wᵀ take their time.

A sweep comes back to every layer with every batch. Of a small model all layers are kept, of a large
one as many as there is room for; at the others C is read and factored again.
"""

import threading

from editcollapse.applying import moment_solver
from editcollapse.artifacts import ArtifactStore
from editcollapse.bounds import LayerGeometry
from editcollapse.models import LoadedModel
from editcollapse.orders import EditOrder
from editcollapse.sites import EditSite

KEPT_BYTES = 1 << 30
"""Of the factors that are kept, at most; one is kept in any case."""
_FLOAT64_BYTES = 8

_kept: dict[str, LayerGeometry] = {}
"""By covariance id, of one model."""
_kept_model: list[str] = []
_lock = threading.Lock()


def kept_geometry(store: ArtifactStore, loaded: LoadedModel, edits: EditOrder) -> LayerGeometry:
    """Return the geometry of an order's layer, made once in a process where there is room.

    Raises:
        MomentError: C has no Cholesky factor.
        ArtifactError: C's file is missing or has changed.
    """
    with _lock:
        if _kept_model != [loaded.model_id]:
            _kept.clear()
            _kept_model[:] = [loaded.model_id]
        known = _kept.get(edits.covariance_id)
        if known is None:
            solver = moment_solver(store, edits.covariance_id, edits.moment, edits.damping)
            known = LayerGeometry.of(EditSite(loaded, edits.model.layer), solver)
            # The last one goes: a sweep comes by in a circle, and the first ones are next.
            room = KEPT_BYTES // (_FLOAT64_BYTES * loaded.widths.d_key**2)
            while _kept and len(_kept) >= room:
                _kept.popitem()
            _kept[edits.covariance_id] = known
        return known
