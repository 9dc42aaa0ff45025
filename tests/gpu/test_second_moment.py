"""Sums of k kT on a device: half types are multiplied as they are and lose nothing by it."""

import pytest
import torch

from editcollapse.compat import multiplies_half
from editcollapse.covariance.second_moment import RunningSum
from editcollapse.models.loading import widened

_TOKENS, _KEY = 60_000, 96
_LIMITS = {torch.float32: 1e-6, torch.bfloat16: 3e-5, torch.float16: 3e-5}
"""Tensor cores do not round what they add up; a half key itself is 1e-3 from its float32 one."""


@pytest.mark.parametrize("batch", [1000, _TOKENS])
@pytest.mark.parametrize("dtype", list(_LIMITS), ids=str)
def test_sums_are_those_of_float64(accelerator, dtype, batch):
    """Keys whose entries differ by orders of magnitude, and the sum's own check agrees."""
    draw = torch.Generator().manual_seed(0)
    keys = torch.randn((_TOKENS, _KEY), generator=draw, dtype=torch.float64)
    keys = (keys * torch.logspace(-2, 2, _KEY, dtype=torch.float64)).to(dtype)
    exact = keys.double().T @ keys.double() / _TOKENS
    with accelerator() as device:
        running = RunningSum(_KEY, device)
        for some in keys.to(device).split(batch):
            running.add_keys_(some if multiplies_half(device) else widened(some))
        total = running.total()
        mean = total.mean()
    scale = exact.diagonal().sqrt()
    assert float(((mean - exact).abs() / scale[:, None] / scale).max()) < _LIMITS[dtype]
    assert total.accumulation_error < _LIMITS[dtype]
    assert bool((mean == mean.T).all())
