"""C of a model's layers for one ``Editor``: each is measured or read once, in one pass."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from editcollapse.data.corpora import CovarianceSource
from editcollapse.errors import StudyError
from editcollapse.study.sweep import named_layers

if TYPE_CHECKING:
    from editcollapse.covariance.second_moment import MomentSolver, SecondMoment
    from editcollapse.editors.running_sum import LayerScale
    from editcollapse.models.loading import LoadedModel


class SecondMoments:
    """C of a model's layers, kept when it is found.

    Args:
        source: where C comes from.
        layer: zero-based block that rank-one methods edit, and that published statistics are of.
    """

    def __init__(self, source: CovarianceSource, layer: int) -> None:
        self.source = source
        self._layer = layer
        self._found: dict[int, SecondMoment | None] = {}
        self._scales: dict[int, LayerScale] = {}

    def solver(self, loaded: "LoadedModel") -> "MomentSolver":
        """Return C of the layer of rank-one methods, factored.

        Raises:
            MomentError: C is not to be had, or has no Cholesky factor.
            DatasetError: the corpus cannot be read.
        """
        from editcollapse.units.single import moment_solver

        self._find(loaded, (self._layer,))
        return moment_solver(loaded, self._layer, self._found[self._layer], self.source)

    def scales(self, loaded: "LoadedModel", layers: Sequence[int]) -> "Mapping[int, LayerScale]":
        """Return C of some layers with the sizes of their W, of the unedited weights.

        Args:
            loaded: the model, unedited.
            layers: zero-based blocks.

        Raises:
            StudyError: C is of another layer.
            MomentError: C is not to be had.
            DatasetError: the corpus cannot be read.
        """
        from editcollapse.units.editors import layer_scale

        if self.source.statistics is not None and tuple(layers) != (self._layer,):
            raise StudyError(
                f"C of {named_layers(layers)} is needed, and `covariance` "
                f"{self.source.statistics.name} is of one layer, {self._layer}. Give a corpus, or "
                "samples; or let the editor edit that layer alone."
            )
        self._find(loaded, layers)
        for layer in layers:
            if layer not in self._scales:
                found = self._found[layer]
                matrix = None if found is None else found.matrix
                self._scales[layer] = layer_scale(loaded, layer, matrix)
        return {layer: self._scales[layer] for layer in layers}

    def _find(self, loaded: "LoadedModel", layers: Sequence[int]) -> None:
        """Measure or read C of those layers that it is not known of."""
        from editcollapse.units.single import second_moments

        missing = [layer for layer in layers if layer not in self._found]
        if not missing:
            return
        found = second_moments(loaded, missing, self.source)
        for layer, moment in zip(missing, found, strict=True):
            if moment is not None and layer != self._layer:
                # Halves of the tokens are for forecasts, which are of rank-one methods.
                self._found[layer] = dataclasses.replace(moment, half=None)
            else:
                self._found[layer] = moment
