"""What a forecast is asked of: a batch of edits that nobody has to make.

A forecast is of edits, and has their ids: it can be laid beside what they turn out to be.
"""

import dataclasses

from editcollapse.fingerprints import unit_key
from editcollapse.methods import METHODS
from editcollapse.orders import EditOrder, Order
from editcollapse.presets import ValueSettings


class ForecastOrder(Order):
    """Read the keys of a batch of requests and bound every method's update."""

    edits: EditOrder
    """The batch, with all methods there are."""

    @classmethod
    def of(cls, edits: EditOrder) -> "ForecastOrder":
        """Return the forecast of a batch: of every method, whichever the batch itself asks for.

        Methods take microseconds, keys seconds; and a verdict names what to use instead.
        """
        whole = edits.model_copy(update={"methods": tuple(METHODS)})
        return cls(results=edits.results, edits=whole)

    @property
    def key(self) -> str:
        """Cache key of the unit."""
        return unit_key("forecast", self.edits.key)

    @property
    def label(self) -> str:
        """For people: model, layer and place in the study."""
        model = self.edits.model
        return f"{model.spec.name} layer {model.layer}, batch {self.edits.batch_label}"


@dataclasses.dataclass(frozen=True, slots=True)
class KnownSetup:
    """How studies in a results folder edit a model, as the database tells it."""

    layer: int
    layer_source: str
    covariance_id: str
    covariance: str
    """Kind: corpus, identity or statistics."""
    n_tokens: int
    damping: float
    moment_digest: str | None
    """Of C's file; None for the identity."""
    template_set_id: str
    templates: tuple[str, ...]
    settings_id: str
    steps: int
    learning_rate: float
    weight_decay: float
    kl_factor: float
    clamp_factor: float
    stop_loss: float

    def __str__(self) -> str:
        """For people: what tells it from others."""
        return (
            f"layer {self.layer}, {self.covariance} covariance {self.covariance_id[:8]} of "
            f"{self.n_tokens} tokens, {len(self.templates)} templates, "
            f"clamp factor {self.clamp_factor:g}"
        )

    @property
    def values(self) -> ValueSettings:
        """Settings of the v* optimisation."""
        names = [field.name for field in dataclasses.fields(ValueSettings)]
        return ValueSettings(**{name: getattr(self, name) for name in names})
