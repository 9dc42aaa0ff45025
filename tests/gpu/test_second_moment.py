"""Sums of k kT on a device: half types are multiplied as they are and lose nothing by it."""

import pytest
import torch

from editcollapse.compat import multiplies_half
from editcollapse.covariance.second_moment import RunningSum
from editcollapse.models.loading import widened

_TOKENS, _KEY = 3000, 96


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_sums_are_those_of_float64(accelerator, dtype):
    """Keys whose entries differ by orders of magnitude: 1e-6, and the sum's own check agrees."""
    draw = torch.Generator().manual_seed(0)
    keys = torch.randn((_TOKENS, _KEY), generator=draw, dtype=torch.float64)
    keys = (keys * torch.logspace(-2, 2, _KEY, dtype=torch.float64)).to(dtype)
    exact = keys.double().T @ keys.double() / _TOKENS
    with accelerator() as device:
        running = RunningSum(_KEY, device)
        for some in keys.to(device).split(1000):
            running.add_keys_(some if multiplies_half(device) else widened(some))
        total = running.total()
        mean = total.mean()
    scale = exact.diagonal().sqrt()
    assert float(((mean - exact).abs() / scale[:, None] / scale).max()) < 1e-6
    assert total.accumulation_error < 1e-6
    assert bool((mean == mean.T).all())
