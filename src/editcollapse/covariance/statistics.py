"""Published layer statistics as a second moment: kmeng01/rome's ``.npz``, or safetensors.

Read without pickle; keys, shapes and content are checked.
"""

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from editcollapse.covariance.second_moment import SecondMoment
from editcollapse.errors import MomentError

_UNREADABLE = (ValueError, OSError, TypeError, EOFError, MemoryError, BadZipFile, zlib.error)
"""What a file that is not what it says raises; MemoryError where it claims an absurd shape."""


def read_statistics(path: Path, d_key: int) -> SecondMoment:
    """Return published statistics: kmeng01/rome's ``.npz``, or safetensors.

    Args:
        path: an ``.npz`` with ``mom2.mom2`` (the sum of k kᵀ) and ``mom2.count``; or a
            ``.safetensors`` with ``moment`` (the mean of k kᵀ) and ``count``.
        d_key: K of the layer that it is meant for.

    Raises:
        MomentError: no such file, other keys, another shape, a pickle inside, or no finite
            symmetric matrix with a positive count.
    """
    if not path.is_file():
        raise MomentError(f"no statistics file {path}. Give an .npz or .safetensors file.")
    if path.suffix == ".npz":
        matrix, count = _read_npz(path)
        matrix = matrix / count if count > 0 else matrix
    elif path.suffix == ".safetensors":
        matrix, count = _read_safetensors(path)
    else:
        raise MomentError(f"{path.name}: statistics are .npz or .safetensors files.")
    if matrix.shape != (d_key, d_key):
        raise MomentError(
            f"{path.name} holds a matrix of shape {tuple(matrix.shape)}, but the layer's keys "
            f"have {d_key} entries: it belongs to another model or layer."
        )
    scale = matrix.abs().max() if matrix.numel() else torch.tensor(0.0)
    symmetric = bool(torch.isfinite(scale)) and bool(
        (matrix - matrix.T).abs().max() <= 1e-4 * scale
    )
    if count <= 0 or not symmetric or float(scale) == 0:
        raise MomentError(
            f"{path.name} holds no second moment: it must be finite, symmetric, not zero, and have "
            f"a positive count (found count {count:g})."
        )
    return SecondMoment((matrix + matrix.T) / 2, int(count), 0)


def _read_npz(path: Path) -> tuple[Tensor, float]:
    """Return the sum of k kᵀ and the count of kmeng01/rome's file."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            missing = {"mom2.mom2", "mom2.count"} - set(arrays.files)
            if missing:
                raise MomentError(
                    f"{path.name} lacks {', '.join(sorted(missing))}; it holds "
                    f"{', '.join(sorted(arrays.files)) or 'nothing'}. Expected are the arrays of "
                    "kmeng01/rome's layer statistics."
                )
            matrix = np.asarray(arrays["mom2.mom2"], dtype=np.float64)
            return torch.from_numpy(matrix), float(arrays["mom2.count"])
    except _UNREADABLE as error:
        if isinstance(error, MomentError):
            raise
        raise MomentError(
            f"{path.name} is no plain .npz of numbers ({error}); pickled arrays are never loaded."
        ) from error


def _read_safetensors(path: Path) -> tuple[Tensor, float]:
    """Return the mean of k kᵀ and the count of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as tensors:
            names = set(tensors.keys())
            if {"moment", "count"} <= names:
                return tensors.get_tensor("moment").double(), float(tensors.get_tensor("count"))
            if {"mom2.mom2", "mom2.count"} <= names:
                count = float(tensors.get_tensor("mom2.count"))
                return tensors.get_tensor("mom2.mom2").double() / max(count, 1.0), count
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise MomentError(f"{path.name} is no whole safetensors file: {error}.") from error
    raise MomentError(
        f"{path.name} holds {', '.join(sorted(names)) or 'nothing'}; expected are the tensors "
        "`moment` (the mean of k kT) and `count`, or `mom2.mom2` (the sum) and `mom2.count`."
    )
