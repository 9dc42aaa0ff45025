"""The condition number of C: its largest eigenvalue over its smallest.

Both are found by Lanczos' method: the largest of C itself, the smallest as the largest of C⁻¹,
which a Cholesky factor applies. A few dozen products with vectors, where all eigenvalues take
minutes.

Source: Lehoucq, Sorensen and Yang, ARPACK Users' Guide, 1998 (shift-invert); scipy's ``eigsh``.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

from editcollapse.covariance.second_moment import MomentSolver
from editcollapse.errors import MomentError

_TOLERANCE = 1e-3
"""Relative, of either eigenvalue."""
_DENSE = 64
"""Of matrices up to this size all eigenvalues are found."""


def condition_number(moment: Tensor) -> float:
    """Return the largest eigenvalue of C over its smallest, to three digits.

    Args:
        moment: (K, K) float64, without damping.

    Returns:
        Infinity where C has no Cholesky factor.
    """
    try:
        solver = MomentSolver(moment)
    except MomentError:
        return float("inf")
    if len(moment) <= _DENSE:
        values = torch.linalg.eigvalsh(moment)
        return float(values[-1] / values[0]) if float(values[0]) > 0 else float("inf")
    largest = _largest(len(moment), lambda vector: moment @ vector)
    return largest * _largest(len(moment), lambda vector: solver.solve(vector[None])[0])


def _largest(size: int, product: Callable[[Tensor], Tensor]) -> float:
    """Return the largest eigenvalue of a symmetric matrix that is known by its products."""

    def apply(vector: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> object:
        return product(torch.from_numpy(vector.ravel())).numpy()

    start = np.random.default_rng(0).standard_normal(size)
    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)
    try:
        (value,) = eigsh(
            operator, k=1, which="LA", v0=start, tol=_TOLERANCE, return_eigenvectors=False
        )
    except ArpackError:
        return float("inf")
    return float(value)
