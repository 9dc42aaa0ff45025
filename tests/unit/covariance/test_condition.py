"""The condition number against all eigenvalues."""

import pytest
import torch

from editcollapse.covariance.condition import condition_number


@pytest.mark.parametrize("width", [24, 300])
@pytest.mark.parametrize("decades", [2, 8])
def test_condition_number_is_that_of_all_eigenvalues(width, decades):
    """To three digits, small or large, well or badly conditioned."""
    generator = torch.Generator().manual_seed(1)
    draw = torch.randn(width, width, dtype=torch.float64, generator=generator)
    turned = torch.linalg.qr(draw)[0]
    values = torch.logspace(0, -decades, width, dtype=torch.float64)
    moment = (turned * values) @ turned.T
    moment = (moment + moment.T) / 2
    assert condition_number(moment) == pytest.approx(10.0**decades, rel=3e-3)


@pytest.mark.parametrize("width", [24, 300])
def test_singular_c_has_none(width):
    """With fewer tokens than dimensions it is infinite."""
    keys = torch.randn(width // 2, width, dtype=torch.float64)
    assert condition_number(keys.T @ keys) == float("inf")
