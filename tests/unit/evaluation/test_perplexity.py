"""Perplexity by hand: no start token, first token unscored, arithmetic mean, infinities kept."""

import math

import pytest
import torch

from editcollapse.errors import DatasetError
from editcollapse.evaluation.perplexity import encode_texts, perplexities, text_nll
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.rome.updates import RankOneUpdates, no_update
from tests.support.cases import LAYER, TEXTS, TIGHT, Float64Throughout, distance, some_updates


def by_hand(loaded, ids):
    """Return exp of the mean negative log-probability of all tokens but the first."""
    logits = loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    scored = [
        math.log(sum(math.exp(x) for x in row.tolist())) - float(row[token])
        for row, token in zip(logits[:-1], ids[1:], strict=True)
    ]
    return math.exp(sum(scored) / len(scored))


@pytest.mark.parametrize("variant", ["gpt2", "llama", "gemma2"])
def test_two_texts_by_hand(tiny_model, variant):
    """Two texts' figures, from the logits by hand; also where prompts have a start token."""
    loaded = tiny_model(variant)
    texts = encode_texts(loaded.encoder, ["Bram lives in Tarn .", "Lumo is red"])
    hooked = HookedLayer(loaded, LAYER)
    assert [len(row) for row in texts.rows] == [3, 5]
    assert not any(loaded.encoder.tokenizer.bos_token_id in row for row in texts.rows)
    with Float64Throughout():
        (found,) = perplexities(text_nll(hooked, texts, no_update(loaded.widths)))
        first, second = (by_hand(loaded, row) for row in texts.rows)
    assert found.mean == pytest.approx((first + second) / 2, rel=TIGHT)
    assert found.median == pytest.approx((first + second) / 2, rel=TIGHT)
    assert found.max == pytest.approx(max(first, second), rel=TIGHT)
    assert found.nll_mean == pytest.approx(math.log(first * second) / 2, rel=TIGHT)
    assert texts.n_tokens == 6


@pytest.mark.parametrize("variant", ["gpt2", "mistral"])
def test_grouping_is_irrelevant(tiny_model, variant):
    """One text and one edit a forward, or all together, give the same figures."""
    loaded = tiny_model(variant)
    hooked = HookedLayer(loaded, LAYER)
    texts = encode_texts(loaded.encoder, TEXTS)
    updates = some_updates(loaded, 3)
    with Float64Throughout():
        small, middle, large = (text_nll(hooked, texts, updates, n) for n in (1, 50, 10**6))
    assert small.shape == (3, len(TEXTS))
    assert distance(small, large) < TIGHT
    assert distance(middle, large) < TIGHT


def test_job_of_texts_is_irrelevant(tiny_model):
    """The same texts in another order give the same set figures."""
    loaded = tiny_model("gpt2")
    hooked = HookedLayer(loaded, LAYER)
    straight, back = (
        perplexities(text_nll(hooked, encode_texts(loaded.encoder, job), no_update(loaded.widths)))
        for job in (TEXTS, TEXTS[::-1])
    )
    assert straight[0].mean == pytest.approx(back[0].mean, rel=TIGHT)
    assert straight[0].median == pytest.approx(back[0].median, rel=TIGHT)


def test_one_token_text_is_rejected(tiny_model):
    """A text of one token has nothing to score; it is named, and the others are kept."""
    encoder = tiny_model("llama").encoder
    found = encode_texts(encoder, ["Lumo", "Lumo is red", "", "red " * 500])
    assert len(found.rows) == 1
    reasons = [rejection.reason for rejection in found.rejections]
    assert [rejection.record_index for rejection in found.rejections] == [0, 2, 3]
    assert reasons[0] == ("text 'Lumo' has 1 token: the first is never scored, so two are needed")
    assert "has 0 token" in reasons[1]
    assert "has 500 tokens, the model takes 80" in reasons[2]


@pytest.mark.parametrize("texts", [["Lumo"], []])
def test_no_text_at_all(tiny_model, texts):
    """A set without one text that can be scored is refused."""
    with pytest.raises(DatasetError, match="no text of the set can be scored by gpt2"):
        encode_texts(tiny_model("gpt2").encoder, texts)


def test_statistics_of_texts():
    """Mean, median of an odd and an even number, maximum, and mean loss."""
    nll = torch.tensor([[1.0, 3.0, 2.0]], dtype=torch.float64).log()
    (found,) = perplexities(nll)
    assert (found.mean, found.median, found.max) == pytest.approx((2.0, 2.0, 3.0))
    assert found.nll_mean == pytest.approx(math.log(6) / 3)
    (even,) = perplexities(torch.tensor([[1.0, 9.0, 2.0, 4.0]], dtype=torch.float64).log())
    assert even.median == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("losses", "median"),
    [
        ([0.0, 0.0, 1e4], 1.0),
        ([0.0, 1e4, 1e4], math.inf),
        ([0.0, 0.0, 1e4, 1e4], math.inf),
        ([1e4, 1e4, 1e4, 1e4], math.inf),
        ([0.0, math.inf], math.inf),
    ],
)
def test_infinity_is_kept(losses, median):
    """A text beyond what float64 holds makes mean and maximum infinite, not nan."""
    (found,) = perplexities(torch.tensor([losses], dtype=torch.float64))
    assert found.mean == found.max == math.inf
    assert found.median == median


def test_nan_is_kept():
    """One text whose loss is no number makes all figures nan, and of that model alone."""
    broken, whole = perplexities(torch.tensor([[math.nan, 0.0], [0.0, 0.0]], dtype=torch.float64))
    figures = (broken.mean, broken.median, broken.max, broken.nll_mean)
    assert all(math.isnan(figure) for figure in figures)
    assert whole.mean == whole.median == whole.max == 1.0


def test_broken_update_leaves_others_alone(tiny_model):
    """An update with infinite entries measures as not finite; its neighbour as if alone."""
    loaded = tiny_model("gpt2")
    hooked = HookedLayer(loaded, LAYER)
    texts = encode_texts(loaded.encoder, TEXTS)
    good = some_updates(loaded, 1)
    both = RankOneUpdates(
        torch.cat([torch.full_like(good.left, torch.inf), good.left]), good.right.repeat(2, 1)
    )
    broken, whole = perplexities(text_nll(hooked, texts, both))
    (alone,) = perplexities(text_nll(hooked, texts, good))
    assert not math.isfinite(broken.mean)
    assert whole.mean == pytest.approx(alone.mean, rel=TIGHT)
