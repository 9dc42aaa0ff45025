"""The benchmarks' plain reference and ours write the same updates and measure the same figures."""

from __future__ import annotations

import contextlib

import pytest
import torch

from benchmarks import reference, reference_measures
from benchmarks.published import Published
from editcollapse.catalog.methods import METHODS
from editcollapse.covariance.second_moment import MomentSolver, measure_moment
from editcollapse.evaluation.perplexity import encode_texts, perplexities, text_nll
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.rome.edited_model import written_into_weights
from editcollapse.rome.updates import rank_one_updates
from editcollapse.rome.values import optimise_values
from tests.support.cases import (
    LAYER,
    REQUESTS,
    TEMPLATES,
    TEXTS,
    TIGHT,
    Float64Throughout,
    distance,
    settings,
    some_moment,
    some_updates,
)

#: Relative, for float32: some thousand roundings of 1e-7, and Adam's division by small gradients.
_SINGLE = 1e-3
_FAMILIES = ("gpt2", "llama", "qwen2")
_CORPUS = [f"{a} {b} {c}" for a in TEXTS for b in TEXTS for c in TEXTS]


def published_of(loaded):
    """Return the reference's view of a loaded model."""
    return Published(
        model=loaded.model,
        projection=loaded.down_projection(LAYER),
        transposed=loaded.architecture.transposed,
        n_positions=loaded.encoder.max_length,
    )


def precisely(dtype):
    """Return what takes a family's own casts to float32 away, in float64."""
    return Float64Throughout() if dtype == "float64" else contextlib.nullcontext()


each_type = pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", TIGHT), ("float32", _SINGLE)]
)


@each_type
@pytest.mark.parametrize("variant", _FAMILIES)
def test_updates_agree(tiny_model, variant, dtype, tolerance):
    """Every method's update, found alone by the published procedure, is that of our batch."""
    loaded = tiny_model(variant, dtype)
    moment = some_moment(loaded.widths.d_key)
    inverse = torch.linalg.inv(moment).to(loaded.dtype)  # noqa: TID251  as the public code does
    rewrites, unusable = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
    assert not unusable
    with precisely(dtype):
        values = optimise_values(HookedLayer(loaded, LAYER), rewrites, settings())
        far = {}
        for name in reference.RULES:
            updates, _ = rank_one_updates(
                values, METHODS[name], MomentSolver(moment), loaded.weight(LAYER), 4.0
            )
            for b, rewrite in enumerate(rewrites):
                one = reference.edit(published_of(loaded), rewrite, name, inverse, settings())
                matrix = torch.outer(one.left, one.right)
                far[name, b] = distance(updates.matrix(b), matrix.double())
    assert max(far.values()) < tolerance, far


def test_without_second_moment_the_key_itself_is_used(tiny_model):
    """C = I is the same as no C."""
    loaded = tiny_model("gpt2")
    published = published_of(loaded)
    (rewrite, *_), _ = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
    identity = torch.eye(loaded.widths.d_key, dtype=torch.float64)
    found = [
        reference.edit(published, rewrite, "rome", inverse, settings(steps=2))
        for inverse in (None, identity)
    ]
    assert distance(found[0].left, found[1].left) < TIGHT
    assert distance(found[0].right, found[1].right) < TIGHT


@each_type
@pytest.mark.parametrize("variant", _FAMILIES)
def test_perplexities_agree(tiny_model, variant, dtype, tolerance):
    """Texts measured on written weights are those of our batch, whose weights stay as they are."""
    loaded = tiny_model(variant, dtype)
    texts = encode_texts(loaded.encoder, TEXTS)
    updates = some_updates(loaded, 3)
    with precisely(dtype):
        ours = text_nll(HookedLayer(loaded, LAYER), texts, updates)
        for b in range(3):
            one = updates.rows(slice(b, b + 1)).to(loaded.device, loaded.dtype)
            update = reference.Update(one.left[0], one.right[0])
            with reference.edited(published_of(loaded), update):
                found = reference_measures.text_nll(published_of(loaded), texts.rows)
            assert distance(ours[b], found) < tolerance
            expected = perplexities(found[None])[0].mean
            assert perplexities(ours)[b].mean == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("variant", _FAMILIES)
def test_written_weights_are_the_same_and_put_back(tiny_model, variant):
    """The reference writes what ``written_into_weights`` writes, and leaves no trace."""
    loaded = tiny_model(variant)
    before = loaded.weight(LAYER).clone()
    updates = some_updates(loaded, 1)
    with written_into_weights(loaded, LAYER, updates, 0):
        expected = loaded.weight(LAYER).clone()
    update = reference.Update(updates.left[0], updates.right[0])
    with reference.edited(published_of(loaded), update):
        assert distance(loaded.weight(LAYER), expected) < TIGHT
    assert torch.equal(loaded.weight(LAYER), before)
    assert not torch.equal(expected, before)


@each_type
@pytest.mark.parametrize("variant", _FAMILIES)
def test_second_moments_agree(tiny_model, variant, dtype, tolerance):
    """Both sides sum the very same tokens, the last document cut to the budget."""
    loaded = tiny_model(variant, dtype)
    n_tokens, length = 1500, 20
    rows = list(reference_measures.tokenised(loaded.encoder.encode, _CORPUS, length, n_tokens))
    assert sum(map(len, rows)) == n_tokens
    assert max(map(len, rows)) == length
    with precisely(dtype):
        ours = measure_moment(loaded, LAYER, _CORPUS, n_tokens=n_tokens, max_length=length)
        found, count = reference_measures.second_moment(published_of(loaded), rows)
    assert count == ours.n_tokens == n_tokens
    assert distance(ours.matrix, found.double()) < tolerance
