"""What is done to an update, or to the sum of all: RECT's mask and PRUNE's restraint.

Sources: RECT (arXiv 2401.04700) as in jianghoucheng/AlphaEdit; PRUNE (arXiv 2405.16821,
mjy1111/PRUNE bi_editor_loadw).
"""

import math

import torch
from torch import Tensor

from editcollapse.catalog.editors import Restraint

_TINY = 1e-8
_BASES = {"log": math.e, "log2": 2.0, "log1_5": 1.5, "log1_2": 1.2}


def masked(change: Tensor, weight: Tensor, share: float) -> Tensor:
    """Return an update of which only the entries of largest relative change are left: RECT.

    Args:
        change: dW, (..., D, K) float64.
        weight: W before it, (D, K) float64.
        share: of the entries that are kept: those at or above the one of rank (1 - share) D K of
            ``|dW / (W + 1e-8)|``.
    """
    relative = (change / (weight + _TINY)).abs()
    flat = relative.flatten(-2)
    # kthvalue, not quantile(): that one takes 16 million numbers at most.
    rank = max(1, math.floor((1.0 - share) * flat.shape[-1]))
    bound = flat.kthvalue(rank, dim=-1).values
    return torch.where(relative >= bound[..., None, None], change, torch.zeros_like(change))


def restrained_values(values: Tensor, largest: float, restraint: Restraint) -> Tensor:
    """Return singular values of a sum of updates, those above W's largest one drawn in: PRUNE.

    Args:
        values: singular values, any shape, float64.
        largest: the unedited matrix's largest singular value.
        restraint: how.
    """
    if restraint == "none":
        return values
    if restraint == "linear":
        drawn = (values + largest) / 2
    else:
        base = math.log(_BASES[restraint])
        drawn = (values.clamp(min=_TINY).log() - math.log(largest)) / base + largest
    return torch.where(values >= largest, drawn, values)


def restrained(total: Tensor, largest: float, restraint: Restraint) -> Tensor:
    """Return the sum of all updates with its spectrum restrained: the edited matrix is W + this.

    Args:
        total: W_t - W, (D, K) float64.
        largest: largest singular value of W before the first edit.
        restraint: how.
    """
    norm = float(total.norm())
    # No singular value is above the Frobenius norm.
    if restraint == "none" or not math.isfinite(norm) or norm < largest:
        return total
    left, values, right = torch.linalg.svd(total, full_matrices=False)
    excess = restrained_values(values, largest, restraint) - values
    # Only what changes is put together again: the rest of the sum stays as it is, bit by bit.
    above = excess != 0
    if not bool(above.any()):
        return total
    drawn: Tensor = total + (left[:, above] * excess[above]) @ right[above]
    return drawn


def factors_of_rank(change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return a change of known rank as factors, (D, rank) and (rank, K).

    Args:
        change: dW, (D, K) float64: a restrained sum has the rank of what it was.
        rank: of it, at most.
    """
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    kept = slice(rank)
    return left[:, kept] * values[kept], right[kept]
