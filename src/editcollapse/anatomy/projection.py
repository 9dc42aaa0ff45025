"""Vectors in two dimensions: PCA and t-SNE by scikit-learn, the same every time.

C^-1 kbar are no keys: they have a space of their own. All keys share one, so that what lies apart
in it lies apart for one reason.

Source: C-ROME (arXiv 2406.11263), whose code saves keys for t-SNE. PCA keeps distances as
far as a plane can; t-SNE keeps neighbours and no distances.
"""

import dataclasses

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from editcollapse.anatomy.keys import Numbers

_PERPLEXITY = 30.0
"""t-SNE's usual number of neighbours."""
_FEW = 7
"""Vectors below which t-SNE says nothing: fewer than two neighbours for each."""
_SMALL = 500
"""Side of a matrix up to which all its components are worked out to have two."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """N vectors in two dimensions, float64."""

    pca: Numbers
    """(N, 2); the second coordinate is 0 where the vectors have one dimension."""
    variance: tuple[float, float]
    """Share of the variance along each component."""
    tsne: Numbers | None
    """(N, 2); None where no perplexity was given."""


def tsne_perplexity(n_vectors: int) -> float | None:
    """Return t-SNE's perplexity for so many vectors; None where they are too few.

    At most a third of the others: t-SNE looks at three times so many neighbours.
    """
    return None if n_vectors < _FEW else min(_PERPLEXITY, (n_vectors - 1) / 3)


def project(vectors: Numbers, perplexity: float | None, seed: int) -> Plane:
    """Return vectors in two dimensions.

    Args:
        vectors: float64 (N, K), none of them nan.
        perplexity: of t-SNE; None leaves it out.
        seed: of t-SNE, which starts at the principal components, and of the search for those.
    """
    pca = np.zeros((len(vectors), 2))
    variance = np.zeros(2)
    n_components = min(2, *vectors.shape)
    if len(vectors) > 1 and float(np.ptp(vectors, axis=0).max()) > 0:
        solver = "full" if min(vectors.shape) <= _SMALL else "arpack"
        found = PCA(n_components, svd_solver=solver, random_state=seed).fit(vectors)
        pca[:, :n_components] = found.transform(vectors)
        variance[:n_components] = found.explained_variance_ratio_
    tsne = None
    if perplexity is not None:
        model = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
        tsne = model.fit_transform(vectors).astype(np.float64)
    return Plane(pca, (float(variance[0]), float(variance[1])), tsne)
