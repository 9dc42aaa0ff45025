"""Orders: what one task is asked to compute, as plain data, with the key that names it.

A key depends on content alone: fingerprints, texts and settings, never on a path, a device, a
run or the name that a study gives to a model. Two studies that need the same unit share it.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

from editcollapse.artifacts import ArtifactRef
from editcollapse.fingerprints import digest, unit_key
from editcollapse.presets import ValueSettings
from editcollapse.requests import EditRequest
from editcollapse.specs import ModelSpec

_METHODS_NAMED = 3
"""Methods that a label names; of more it gives the number."""


class Order(BaseModel):
    """Base of all orders."""

    model_config = ConfigDict(frozen=True)

    results: str
    """The results folder; not part of any key."""

    @property
    def key(self) -> str:
        """Cache key of the unit."""
        raise TypeError(f"{type(self).__name__} is no unit of work")


class ModelOrder(BaseModel):
    """A model as a study uses it."""

    model_config = ConfigDict(frozen=True)

    spec: ModelSpec
    model_id: str
    """Weights, configuration, tokenizer, dtype and start-token policy by content."""
    layer: int
    layer_source: str
    """Where the layer stands: a published file, the study file, or ``unpublished``."""
    values: ValueSettings

    @property
    def settings_id(self) -> str:
        """Digest of the v* settings."""
        return digest("value-settings", self.values)


class TemplatesOrder(Order):
    """Draw, or take over, a set of context templates and encode it."""

    model: ModelOrder
    kind: str
    lengths: tuple[tuple[int, int], ...]
    seed: int
    given: tuple[str, ...] | None
    """Templates of a file; None where they are drawn from the model."""

    @property
    def key(self) -> str:
        """Cache key of the unit."""
        drawn = (self.kind, self.lengths, self.seed) if self.given is None else self.given
        return unit_key("templates", self.model.model_id, drawn)


class UneditedOrder(Order):
    """Measure the unedited model's perplexity on a text set."""

    model: ModelOrder
    texts: ArtifactRef
    evaluation_id: str

    @property
    def key(self) -> str:
        """Cache key of the unit."""
        return unit_key("unedited", self.model.model_id, self.texts.digest, self.evaluation_id)


class EditOrder(Order):
    """Optimise v* for a batch of requests and make every method's update."""

    model: ModelOrder
    methods: tuple[str, ...]
    templates: tuple[str, ...]
    template_set_id: str
    covariance_id: str
    damping: float
    moment: ArtifactRef | None
    """C; None for the identity."""
    requests: tuple[EditRequest, ...]
    batch_index: int
    """Place in the study; not part of the key."""
    batch_label: str
    """For people: ``3 of 12``; not part of the key."""

    @property
    def label(self) -> str:
        """For people: model, layer, methods and place in the study."""
        many = len(self.methods) > _METHODS_NAMED
        methods = f"{len(self.methods)} methods" if many else ", ".join(self.methods)
        model = self.model
        return f"{model.spec.name} layer {model.layer}, {methods}, batch {self.batch_label}"

    @property
    def key(self) -> str:
        """Cache key of the unit."""
        return unit_key(
            "edits",
            self.model.model_id,
            self.model.layer,
            self.model.layer_source,
            self.model.values,
            self.methods,
            self.template_set_id,
            self.covariance_id,
            [request.request_id for request in self.requests],
        )

    def edit_id(self, method: str, request_id: str) -> str:
        """Return the id of one edit: the same wherever and with whatever others it is computed."""
        return digest(
            "edit",
            self.model.model_id,
            self.model.layer,
            method,
            request_id,
            self.model.settings_id,
            self.template_set_id,
            self.covariance_id,
        )


class EvaluateOrder(Order):
    """Measure the edited models of one batch."""

    edits: EditOrder
    updates: ArtifactRef
    texts: ArtifactRef
    evaluation_id: str
    seed: int
    skipped: tuple[str, ...] = ()
    """Ids of the batch's requests that the model could not take."""

    @property
    def key(self) -> str:
        """Cache key of the unit."""
        return unit_key(
            "evaluation",
            self.edits.key,
            self.updates.digest,
            self.texts.digest,
            self.evaluation_id,
            self.seed,
        )


class RecordOrder(Order):
    """Enter row files into the results database, which knows them afterwards: no unit of work."""

    rows: tuple[ArtifactRef, ...]
    publish: bool = False
    """Whether readers are to see them at once."""

    @property
    def label(self) -> str:
        """For people."""
        return f"{len(self.rows)} row files"


class ReportOrder(Order):
    """Publish what a study has recorded."""

    study_id: str
    study_name: str
    note: str
    recorded: str
    """Digest of the row files that it covers."""

    @property
    def key(self) -> str:
        """Cache key of the unit."""
        return unit_key("report", self.study_id, self.note, self.recorded)


class Manifest(BaseModel):
    """What a task hands back: references, never data."""

    model_config = ConfigDict(frozen=True)

    unit_id: str
    summary: str
    """One line for people."""
    rows: tuple[ArtifactRef, ...] = ()
    tensors: ArtifactRef | None = None
    parts: tuple[ArtifactRef, ...] = ()
    """Tensor files that others take one by one: the shards of a corpus; a file for each layer."""
    values: tuple[str, ...] = ()
    """Small results that later orders need: the templates of a template set, the largest change at
    a checkpoint."""
    unusable: tuple[tuple[str, str], ...] = ()
    """Request id and reason of what this model could not take."""

    @property
    def refs(self) -> tuple[ArtifactRef, ...]:
        """All files of the unit."""
        refs = (*self.rows, *self.parts)
        return refs if self.tensors is None else (*refs, self.tensors)


def template_set_id_of(model_id: str, templates: tuple[str, ...]) -> str:
    """Return the id of a template set: its texts, under one model's tokenizer."""
    return digest("templates", model_id, templates)


def order_key(_context: Any, parameters: dict[str, Any]) -> str:
    """Return the cache key of the task call whose parameter ``order`` says what to do."""
    order: Order = parameters["order"]
    return order.key
