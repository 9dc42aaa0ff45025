"""Two dimensions: principal components by hand, t-SNE the same every time."""

import numpy as np
import pytest

from editcollapse.anatomy.projection import project, tsne_perplexity


def test_components_are_those_of_the_singular_values():
    """Coordinates and shares of variance are those of numpy's SVD, up to sign."""
    vectors = np.random.default_rng(0).normal(size=(30, 8)) * np.arange(1, 9)
    centred = vectors - vectors.mean(axis=0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    found = project(vectors, None, 0)
    assert np.allclose(np.abs(found.pca), np.abs(centred @ rows[:2].T), atol=1e-9)
    assert found.variance == pytest.approx(tuple((singular**2 / (singular**2).sum())[:2]))
    assert found.tsne is None


def test_search_for_components_finds_the_same_as_all_of_them():
    """Large matrices are not decomposed whole; numbers agree."""
    vectors = np.random.default_rng(0).normal(size=(520, 510))
    vectors[:, 0] *= 9
    vectors[:, 1] *= 5
    found = project(vectors, None, 0)
    centred = vectors - vectors.mean(axis=0)
    rows = np.linalg.svd(centred, full_matrices=False)[2]
    assert np.allclose(np.abs(found.pca), np.abs(centred @ rows[:2].T), atol=1e-8)


def test_tsne_is_the_same_every_time():
    """Seeded and in one thread: coordinates repeat to the last bit."""
    vectors = np.random.default_rng(0).normal(size=(20, 6))
    perplexity = tsne_perplexity(20)
    first, again = (project(vectors, perplexity, 0).tsne for _ in range(2))
    assert first.shape == (20, 2)
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)


def test_perplexity_follows_the_number_of_vectors():
    """Thirty, or a third of the others; none for a handful."""
    assert [tsne_perplexity(n) for n in (6, 7, 31, 91, 1000)] == [None, 2.0, 10.0, 30.0, 30.0]


@pytest.mark.parametrize("vectors", [np.ones((1, 4)), np.ones((5, 4)), np.ones((5, 1))])
def test_vectors_without_spread_lie_at_the_centre(vectors):
    """One vector, or many alike, have no components and no variance."""
    found = project(vectors, None, 0)
    assert found.variance == (0.0, 0.0)
    assert (found.pca == 0).all()
