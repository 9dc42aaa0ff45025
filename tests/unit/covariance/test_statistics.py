"""Published statistics: what is read from kmeng01's .npz and from safetensors, what is refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from editcollapse.covariance.statistics import read_statistics
from editcollapse.errors import MomentError
from tests.support.cases import distance, some_moment

K = 6
COUNT = 40


@pytest.fixture
def moment():
    """Return a small second moment."""
    return some_moment(K)


def published(folder, **changes):
    """Write an .npz as kmeng01/rome's layer_stats does: the sum in float32, the class as text."""
    arrays = {
        "constructor": "util.runningstats.CombinedStat()",
        "mom2.constructor": "util.runningstats.SecondMoment()",
        "mom2.count": COUNT,
        "mom2.mom2": (some_moment(K) * COUNT).numpy().astype(np.float32),
        "sample_size": 100,
    } | changes
    path = folder / "layer_float32_mom2_100000.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_kmeng01_npz(tmp_path, moment):
    """The sum over the count is the moment; the file's text entries are left alone."""
    found = read_statistics(published(tmp_path), K)
    assert found.n_tokens == COUNT
    assert found.matrix.dtype == torch.float64
    assert distance(found.matrix, moment) < 1e-6  # float32 on disk
    assert torch.equal(found.matrix, found.matrix.T)


@pytest.mark.parametrize("names", [("moment", "count"), ("mom2.mom2", "mom2.count")])
def test_safetensors(tmp_path, moment, names):
    """A safetensors file holds the mean under plain names, or the sum under kmeng01's."""
    path = tmp_path / "c.safetensors"
    matrix = moment if names[0] == "moment" else moment * COUNT
    save_file({names[0]: matrix, names[1]: torch.tensor(COUNT)}, path)
    found = read_statistics(path, K)
    assert distance(found.matrix, moment) < 1e-12
    assert found.n_tokens == COUNT


def test_wrong_shape(tmp_path):
    """A matrix of another model or layer is refused with both sizes."""
    with pytest.raises(
        MomentError, match=r"shape \(6, 6\).*have 8 entries.*another model or layer"
    ):
        read_statistics(published(tmp_path), 8)


@pytest.mark.parametrize("matrix", [np.zeros(K), np.float32(3.0), np.zeros((K, K, 2))])
def test_no_matrix_at_all(tmp_path, matrix):
    """An array that is no matrix is refused by its shape."""
    with pytest.raises(MomentError, match="holds a matrix of shape"):
        read_statistics(published(tmp_path, **{"mom2.mom2": matrix}), K)


def test_missing_arrays_are_named(tmp_path):
    """The message names what is missing and what is there."""
    path = published(tmp_path, **{"mom2.mom2": None})
    with pytest.raises(MomentError, match=r"lacks mom2\.mom2; it holds constructor, mom2\.constr"):
        read_statistics(path, K)
    other = tmp_path / "c.safetensors"
    save_file({"cov": torch.eye(K)}, other)
    with pytest.raises(MomentError, match="holds cov; expected are"):
        read_statistics(other, K)


@pytest.mark.parametrize("name", ["mom2.mom2", "mom2.count"])
def test_pickled_arrays_are_never_loaded(tmp_path, name):
    """An object array, which numpy would unpickle, is refused."""
    array = np.empty((1,), dtype=object)
    array[0] = {"code": 1}
    with pytest.raises(MomentError, match="pickled arrays are never loaded"):
        read_statistics(published(tmp_path, **{name: array}), K)


@pytest.mark.parametrize("count", [0, -4])
def test_count_must_be_positive(tmp_path, count):
    """No tokens, or fewer, make no mean."""
    with pytest.raises(MomentError, match=f"positive count .found count {count}"):
        read_statistics(published(tmp_path, **{"mom2.count": count}), K)


@pytest.mark.parametrize("kind", ["skewed", "nan", "inf", "zero"])
def test_matrix_must_be_a_moment(tmp_path, moment, kind):
    """A matrix that is not symmetric, not finite, or zero is no second moment."""
    matrix = moment.numpy().copy()
    if kind == "skewed":
        matrix[0, 1] += 0.1 * abs(matrix).max()
    elif kind == "zero":
        matrix[:] = 0
    else:
        matrix[2, 2] = float(kind)
    with pytest.raises(MomentError, match="holds no second moment: it must be finite, symmetric"):
        read_statistics(published(tmp_path, **{"mom2.mom2": matrix}), K)


@pytest.mark.parametrize("name", ["c.npz", "c.safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 0.5])
def test_files_that_are_not_whole(tmp_path, moment, name, keep):
    """A file cut short, or empty, is refused by name."""
    path = tmp_path / name
    if name.endswith("npz"):
        published(tmp_path).rename(path)
    else:
        save_file({"moment": moment, "count": torch.tensor(COUNT)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(MomentError, match=name.replace(".", r"\.")):
        read_statistics(path, K)


def test_no_such_file_or_kind(tmp_path):
    """A missing file and a foreign suffix are refused with the two forms that are read."""
    with pytest.raises(MomentError, match=r"no statistics file .*\.npz or \.safetensors"):
        read_statistics(tmp_path / "none.npz", K)
    pickle = tmp_path / "c.pt"
    pickle.write_bytes(b"\x80\x04")
    with pytest.raises(MomentError, match=r"c\.pt: statistics are \.npz or \.safetensors"):
        read_statistics(pickle, K)
