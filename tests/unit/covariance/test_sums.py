"""Sums of k kT: half of each product, merged by addition, whole again at the end."""

import dataclasses

import pytest
import torch

from editcollapse.covariance.second_moment import RunningSum, put_sum, read_sum
from editcollapse.study.artifacts import ArtifactStore
from tests.support.cases import TIGHT, distance

CPU = torch.device("cpu")


def some_keys(n, d_key, seed=0, dtype=torch.float64):
    """Return random keys, (n, K)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d_key, generator=generator, dtype=torch.float64).to(dtype)


def sum_of(*parts):
    """Return the sum over groups of keys."""
    running = RunningSum(parts[0].shape[1], CPU)
    for keys in parts:
        running.add_keys_(keys)
    return running.total()


@pytest.mark.parametrize("d_key", [1, 3, 4, 5, 24, 31])
def test_mean_is_whole_and_symmetric(d_key):
    """Whatever K is, four slabs give the whole of K^T K / n, exactly symmetric."""
    keys = some_keys(50, d_key)
    mean = sum_of(keys[:20], keys[20:]).mean()
    assert distance(mean, keys.T @ keys / 50) < TIGHT
    assert torch.equal(mean, mean.T)


def test_merged_sums_are_the_sum_of_all():
    """Added in parts and merged, counts and products are those of one sum."""
    keys = some_keys(60, 7)
    merged = sum_of(keys[:25])
    merged.add_sum_(sum_of(keys[25:]))
    assert merged.n_tokens == 60
    assert distance(merged.mean(), sum_of(keys).mean()) < 1e-14


def test_error_of_float32_products_is_measured(tmp_path):
    """The error is that of the products, nought for float64 keys; merging keeps the largest."""
    keys = some_keys(300, 9, dtype=torch.float32)
    total = sum_of(keys)
    wide = keys.double()
    product, exact = (keys.T @ keys).double(), wide.T @ wide
    expected = float((product - exact).norm() / exact.norm())
    # Slabs count each pair of entries once and may round in another order.
    assert expected / 4 < total.accumulation_error < 4 * expected
    assert sum_of(wide).accumulation_error is None
    worse = dataclasses.replace(sum_of(keys), accumulation_error=0.5)
    for one, other in ((total, worse), (worse, sum_of(keys)), (sum_of(wide), worse)):
        one.add_sum_(other)
        assert one.accumulation_error == 0.5


def test_float32_runs_are_summed_in_float64(monkeypatch):
    """A sum of many float32 runs keeps what a float32 sum would lose."""
    monkeypatch.setattr("editcollapse.covariance.second_moment._RUN", 1)
    big = torch.full((1, 2), 4096.0)
    total = sum_of(big, *[torch.ones(1, 2)] * 64)
    assert float(total.slabs[0][0, 0]) == 4096.0**2 + 64
    assert float(torch.tensor(4096.0) ** 2 + 1) == 4096.0**2  # float32 alone


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sum_comes_back_from_its_file(tmp_path, dtype):
    """Slabs, counts and error are what was written."""
    store = ArtifactStore(tmp_path)
    total = sum_of(some_keys(30, 10, dtype=dtype))
    total.n_texts = 4
    found = read_sum(store, put_sum(store, total))
    assert all(map(torch.equal, found.slabs, total.slabs))
    assert (found.n_tokens, found.n_texts) == (30, 4)
    assert found.accumulation_error == total.accumulation_error
