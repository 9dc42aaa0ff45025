"""What C's own tokens hide: directions of one half over the other, against plain sums and truth."""

import pytest
import torch

from editcollapse.covariance.held_out import factored
from editcollapse.covariance.second_moment import (
    HalvedSum,
    MomentSolver,
    RunningSum,
    SecondMoment,
    put_moment,
    read_moment,
)
from editcollapse.errors import ArtifactError
from editcollapse.study.artifacts import ArtifactStore
from tests.support.cases import TIGHT

WIDTH = 24


def keys_of(n_tokens, seed=0):
    """Return keys whose directions have very different sizes, (n, K) float64."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(0, -3, WIDTH, dtype=torch.float64)
    return torch.randn(n_tokens, WIDTH, dtype=torch.float64, generator=generator) * sizes


def moment_of(*shards):
    """Return C of some keys, a tensor a shard."""
    total = HalvedSum.empty(WIDTH, torch.device("cpu"))
    for keys in shards:
        running = RunningSum(WIDTH, keys.device)
        running.add_keys_(keys)
        total.add_shard_(running.total())
    return SecondMoment.of(total)


def test_halves_are_those_of_the_shards():
    """Shards go to the half that has fewer tokens; both means are plain ones."""
    first, second, third, fourth = keys_of(400).split([150, 60, 60, 130])
    found = moment_of(first, second, third, fourth)
    one, other = found.halves()
    for mean, keys in ((one, first), (other, torch.cat([second, third, fourth]))):
        assert torch.allclose(mean, keys.T @ keys / len(keys), rtol=TIGHT, atol=1e-14)
    assert moment_of(first).halves() is None
    assert bool(torch.isinf(factored(moment_of(first), 0.0).optimism(first[:3])).all())


@pytest.mark.parametrize("damping", [0.0, 0.01, 1.0])
def test_optimism_is_that_of_plain_sums(damping):
    """A direction is solved with one half and measured over both, the long way, and vice versa."""
    first, second = keys_of(300).split([140, 160])
    asked = keys_of(5, seed=1)
    found = factored(moment_of(first, second), damping).optimism(asked)
    squares = []
    for own, other in ((first, second), (second, first)):
        matrix = own.T @ own / len(own)
        shift = damping * matrix.diagonal().mean() * torch.eye(WIDTH, dtype=torch.float64)
        u = torch.linalg.solve(matrix + shift, asked.T)
        squares.append((other @ u).square().mean(dim=0) / (own @ u).square().mean(dim=0))
    expected = ((squares[0] + squares[1]) / 2).sqrt().clamp(min=1)
    assert torch.allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("tokens_per_d_key", [3, 5, 20])
def test_raised_spread_covers_other_tokens(tokens_per_d_key):
    """Over many other keys C⁻¹k is larger than over C's own, and at most as raised."""
    n_tokens = tokens_per_d_key * WIDTH
    keys, other = keys_of(n_tokens, seed=2), keys_of(100_000, seed=3)
    asked = keys_of(200, seed=4)
    solver = factored(moment_of(*keys.split(-(-n_tokens // 4))), 0.0)
    u = solver.solve(asked)
    own, outside = solver.spread(u), (other @ u.T).square().mean(dim=0).sqrt()
    raised = own * solver.optimism(asked)
    assert float((outside / own).median()) > 1
    assert float((raised / outside).median()) > 1
    assert float((raised / outside).quantile(0.05)) > 0.9


def test_half_without_a_factor_bounds_nothing():
    """With fewer tokens in a half than dimensions any change is possible; damping helps."""
    few = moment_of(*keys_of(WIDTH + 6).split(15))
    assert bool(torch.isinf(factored(few, 0.0).optimism(keys_of(3))).all())
    assert bool(torch.isfinite(factored(few, 0.1).optimism(keys_of(3))).all())


def test_without_halves_nothing_is_raised():
    """Published statistics do not tell their tokens apart; the identity has none."""
    matrix = moment_of(keys_of(100)).matrix
    for solver in (factored(SecondMoment(matrix, 100, 0), 0.0), MomentSolver(None)):
        assert torch.equal(solver.optimism(keys_of(3)), torch.ones(3, dtype=torch.float64))


def test_spread_is_of_the_undamped_c():
    """The damping is of the solve alone."""
    keys, rows = keys_of(100), keys_of(4, seed=5)
    matrix = keys.T @ keys / 100
    expected = (keys @ rows.T).square().mean(dim=0).sqrt()
    for damping in (0.0, 0.5, 10.0):
        assert torch.allclose(MomentSolver(matrix, damping).spread(rows), expected, rtol=TIGHT)


def test_file_keeps_tokens_and_halves(tmp_path):
    """What is written is read again; a file of an earlier version is named."""
    store = ArtifactStore(str(tmp_path))
    made = moment_of(*keys_of(90).split(40))
    found = read_moment(store, put_moment(store, made))
    assert torch.equal(found.matrix, made.matrix)
    assert found.n_tokens == 90
    for one, other in zip(found.halves(), made.halves(), strict=True):
        assert torch.equal(one, other)
    statistics = SecondMoment(made.matrix, 1000, 0)
    assert read_moment(store, put_moment(store, statistics)).halves() is None
    old = store.put_tensors("moments", {"moment": made.matrix})
    with pytest.raises(ArtifactError, match=r"earlier version.*Run the study again"):
        read_moment(store, old)
