"""Has C seen enough tokens? The change of the direction u = C⁻¹k̄ / |C⁻¹k̄| on probe keys.

u is all that an update takes from C, so its change is the error that matters; it needs no
threshold on C itself.
"""

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from editcollapse.covariance.second_moment import MomentSolver, MomentSum
from editcollapse.errors import MomentError
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import read_keys
from editcollapse.forward.rewrites import Rewrite
from editcollapse.models.loading import LoadedModel
from editcollapse.rows.study import ConvergenceRow


def prefixed_keys(
    loaded: LoadedModel, layers: Sequence[int], rewrites: Sequence[Rewrite], tokens_per_pass: int
) -> list[Tensor]:
    """Return k̄ of each rewrite, one (B, K) float64 on the CPU for each layer.

    Rows end at the subject's last token: nothing to the right of it changes its key.

    Args:
        loaded: the model.
        layers: zero-based blocks.
        rewrites: B requests in tokens; k̄ is the mean over their context templates.
        tokens_per_pass: padded tokens of one forward at most; a single row may be longer.
    """
    if not rewrites:
        return [torch.zeros((0, loaded.widths.d_key), dtype=torch.float64) for _ in layers]
    return [
        read_keys(HookedLayer(loaded, layer), rewrites, tokens_per_pass).prefixed_key.cpu().double()
        for layer in layers
    ]


def unit_directions(total: MomentSum, probes: Tensor, damping: float) -> Tensor | None:
    """Return u of each probe, (B, K) float64, unit length; None where C is singular.

    Args:
        total: the sum over the tokens so far.
        probes: (B, K) float64.
        damping: as edits solve with.
    """
    d_key = probes.shape[1]
    if len(probes) == 0 or (total.n_tokens < d_key and damping == 0):
        return None
    try:
        solved = MomentSolver(total.mean(), damping).solve(probes)
    except MomentError:
        return None
    unit: Tensor = solved / solved.norm(dim=1, keepdim=True)
    return unit


def convergence_row(
    covariance_id: str,
    probe_set_id: str,
    n_shards: int,
    total: MomentSum,
    probes: Tensor,
    pair: tuple[Tensor | None, Tensor | None],
) -> ConvergenceRow:
    """Return the row of one checkpoint.

    Args:
        covariance_id: of the finished C.
        probe_set_id: of the requests and templates that the probes are read from.
        n_shards: shards summed so far.
        total: their sum.
        probes: (B, K) float64.
        pair: ``unit_directions`` at the checkpoint before and now.
    """
    before, now = pair
    changes: list[float] = []
    if before is not None and now is not None:
        changes = (now - before).norm(dim=1).tolist()
    return ConvergenceRow(
        covariance_id=covariance_id,
        n_shards=n_shards,
        n_tokens=total.n_tokens,
        tokens_per_d_key=total.n_tokens / probes.shape[1],
        probe_set_id=probe_set_id,
        n_probes=len(probes),
        median_change=statistics.median(changes) if changes else None,
        max_change=max(changes) if changes else None,
    )
