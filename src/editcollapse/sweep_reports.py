"""What a sweep says: how many edits of each layer are safe, and at which layers all of them are."""

import dataclasses
from collections.abc import Sequence

from editcollapse.verdicts import ModelThresholds


@dataclasses.dataclass(frozen=True, slots=True)
class LayerVerdicts:
    """Verdicts on the requests of one kind of subject, at one layer by one method."""

    model: str
    """What the study calls it."""
    layer: int
    method: str
    subject_position: str
    """first_token, first_several or inside."""
    n_requests: int
    n_safe: int
    n_at_risk: int
    n_will_collapse: int
    median_denominator: float
    """Of |a . u|."""
    median_bound: float
    """Of text_change_bound."""
    largest_bound: float

    @property
    def is_safe(self) -> bool:
        """Whether all of them are safe."""
        return self.n_safe == self.n_requests


@dataclasses.dataclass(frozen=True, slots=True)
class SafeLayers:
    """At which of a model's layers every request is safe by one method."""

    model: str
    method: str
    layers: tuple[int, ...]
    safest_layer: int
    """Where the largest bound of all requests is the smallest."""
    largest_bound: float
    """Of any request there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unswept:
    """How many requests a model cannot take."""

    model: str
    n_requests: int


@dataclasses.dataclass(frozen=True, slots=True)
class SweepReport:
    """The sweep of a study and what its verdicts rest on."""

    basis: tuple[ModelThresholds, ...]
    layers: tuple[LayerVerdicts, ...]
    """By model, layer, method and position."""
    safe_layers: tuple[SafeLayers, ...]
    unswept: tuple[Unswept, ...]
    """Models that cannot take some of the requests."""
    notes: tuple[str, ...]
    """What to know of single layers, a sentence each."""


def safe_layers(rows: Sequence[LayerVerdicts]) -> tuple[SafeLayers, ...]:
    """Return the layers at which all requests are safe, for each model and method.

    Args:
        rows: by model, layer and method; all positions of each.
    """
    groups: dict[tuple[str, str], list[LayerVerdicts]] = {}
    for row in rows:
        groups.setdefault((row.model, row.method), []).append(row)
    found = []
    for (model, method), ours in groups.items():
        layers = sorted({row.layer for row in ours})
        largest = {
            layer: max(row.largest_bound for row in ours if row.layer == layer) for layer in layers
        }
        best = min(layers, key=lambda layer: largest[layer])
        safe = [layer for layer in layers if all(row.is_safe for row in ours if row.layer == layer)]
        found.append(SafeLayers(model, method, tuple(safe), best, largest[best]))
    return tuple(found)
