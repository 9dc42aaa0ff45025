"""The second moment is the mean of k kT over exactly the tokens asked for, and is solved with."""

import pytest
import torch

from editcollapse.config.spec import ModelSpec
from editcollapse.covariance.second_moment import MomentSolver, measure_moment
from editcollapse.errors import MomentError
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.models.loading import load_model
from tests.support.cases import LAYER, TEXTS, TIGHT, Float64Throughout, distance, some_moment

ALL = 10_000


def direct(loaded, rows):
    """Return K^T K / n over rows of ids, one forward each."""
    hooked = HookedLayer(loaded, LAYER)
    keys = torch.cat([hooked.read(torch.tensor([row])).key[0] for row in rows])
    return keys.T @ keys / len(keys)


def test_streaming_equals_direct(tiny_model):
    """Summed in padded batches, the moment is K^T K / n of all keys at once."""
    loaded = tiny_model("gpt2")
    rows = [loaded.encoder.encode(text) for text in TEXTS]
    found = measure_moment(loaded, LAYER, TEXTS, n_tokens=ALL, max_length=99)
    assert distance(found.matrix, direct(loaded, rows)) < TIGHT
    assert found.n_tokens == sum(map(len, rows))
    assert found.n_texts == len(TEXTS)
    assert found.accumulation_error is None


@pytest.mark.parametrize("budget", [1, 6, 8, 20])
def test_token_budget_is_exact(tiny_model, budget):
    """Exactly the first ``n_tokens`` tokens count; the last document is cut where they end."""
    loaded = tiny_model("gpt2")
    left, rows = budget, []
    for text in TEXTS:
        row = loaded.encoder.encode(text)[:left]
        rows += [row] if row else []
        left -= len(row)
    found = measure_moment(loaded, LAYER, TEXTS, n_tokens=budget, max_length=99)
    assert found.n_tokens == budget
    assert distance(found.matrix, direct(loaded, rows)) < TIGHT


@pytest.mark.parametrize("variant", ["gpt2", "mistral"])
def test_batches_are_irrelevant(tiny_model, variant):
    """One document a forward, or all in one, give the same moment."""
    loaded = tiny_model(variant)
    documents = [text for text in TEXTS for _ in range(30)]  # more than one group of 100
    with Float64Throughout():
        small, large = (
            measure_moment(
                loaded, LAYER, documents, n_tokens=ALL, max_length=9, tokens_per_batch=budget
            )
            for budget in (1, 100_000)
        )
    assert small.n_tokens == large.n_tokens
    assert distance(small.matrix, large.matrix) < TIGHT


def test_documents_are_cut_and_opened_as_asked(tiny_model):
    """``max_length`` counts the start token, which is there only where it is asked for."""
    loaded = tiny_model("llama")
    rows = [loaded.encoder.sequence(text)[:5] for text in TEXTS]
    with Float64Throughout():
        found = measure_moment(loaded, LAYER, TEXTS, n_tokens=ALL, max_length=5, start_token=True)
        assert distance(found.matrix, direct(loaded, rows)) < TIGHT
    without = measure_moment(loaded, LAYER, TEXTS, n_tokens=ALL, max_length=5)
    assert without.n_tokens < found.n_tokens + len(TEXTS)
    assert distance(without.matrix, found.matrix) > 1e-3


def test_float32_products_are_checked_against_float64(tiny_model):
    """A float32 model's moment is near the float64 one, and its error is measured and small."""
    exact = measure_moment(tiny_model("gpt2"), LAYER, TEXTS, n_tokens=ALL, max_length=99)
    small = measure_moment(tiny_model("gpt2", "float32"), LAYER, TEXTS, n_tokens=ALL, max_length=99)
    assert small.matrix.dtype == torch.float64
    assert 0 < small.accumulation_error < 1e-6
    assert distance(small.matrix, exact.matrix) < 1e-5


def test_progress_ends_at_the_budget(tiny_model):
    """The caller hears of the tokens done, up to the budget."""
    heard = []
    loaded = tiny_model("gpt2")
    measure_moment(
        loaded, LAYER, TEXTS, n_tokens=9, max_length=4, on_tokens=lambda *d: heard.append(d)
    )
    assert heard[-1] == (9, 9)


def test_empty_corpus_is_refused(tiny_model):
    """A corpus without a token has no second moment."""
    with pytest.raises(MomentError, match="the corpus has no tokens"):
        measure_moment(tiny_model("gpt2"), LAYER, ["", " "], n_tokens=5, max_length=5)


def test_keys_that_are_not_finite_are_refused(tiny_folder):
    """A model whose keys overflow is named, with what to do."""
    loaded = load_model(ModelSpec(name="broken", source=str(tiny_folder("gpt2"))), "cpu")
    with torch.no_grad():
        loaded.blocks[0].get_submodule("mlp.c_fc").weight.fill_(torch.inf)
    with pytest.raises(MomentError, match=r"layer 0 of gpt2 are not finite.*float32"):
        measure_moment(loaded, 0, TEXTS, n_tokens=5, max_length=5)


def test_solver_solves():
    """C times the solution is the key, for each key of a batch."""
    moment = some_moment(12)
    keys = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    solved = MomentSolver(moment).solve(keys)
    assert solved.dtype == torch.float64
    assert distance(solved @ moment, keys.double()) < TIGHT
    assert torch.equal(MomentSolver(None).solve(keys), keys.double())


def test_damping_is_relative_to_the_mean_diagonal():
    """Damping adds its share of the mean diagonal, so it too is free of the moment's scale."""
    moment = some_moment(12)
    key = torch.ones(1, 12, dtype=torch.float64)
    damped = moment + 0.3 * moment.diagonal().mean() * torch.eye(12, dtype=torch.float64)
    found = MomentSolver(moment, 0.3).solve(key)
    assert distance(found @ damped, key) < TIGHT
    assert distance(MomentSolver(7 * moment, 0.3).solve(key) * 7, found) < TIGHT


def test_singular_moment_names_the_ways_out():
    """Fewer tokens than key entries give a singular matrix; the message says what to raise."""
    keys = torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    keys[:, 4] = 0  # a neuron that never fired
    singular = keys.T @ keys / 3
    with pytest.raises(MomentError, match=r"12 x 12, damping 0.*covariance.n_tokens.*damping"):
        MomentSolver(singular)
    MomentSolver(singular, 0.01)
    with pytest.raises(MomentError, match="singular"):
        MomentSolver(torch.full((3, 3), torch.nan))
