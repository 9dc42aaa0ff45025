"""Jobs: what one task is asked to compute, as plain data, with the key that names it.

A key depends on content alone: fingerprints, texts and settings, never on a path, a device, a
run or the name that a study gives to a model. Two studies that need the same job share it.

Here are the jobs of edits, of the second moment they solve with, and of forecasts, which have the
ids of the edits that they are about.
"""

import dataclasses
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from editcollapse.catalog.methods import METHODS
from editcollapse.catalog.presets import ValueSettings
from editcollapse.config.spec import CovarianceSpec, ModelSpec
from editcollapse.data.requests import EditRequest
from editcollapse.fingerprints import canonical_without, digest, unit_key
from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule
from editcollapse.runtime.environment import AskedFor, ProvenanceClock
from editcollapse.study.artifacts import ArtifactRef

_METHODS_NAMED = 3
"""Methods that a label names; of more it gives the number."""


class Asker(BaseModel):
    """The study whose run asks for a job."""

    model_config = ConfigDict(frozen=True)

    study_id: str
    study: str
    """Its name."""


class Job(BaseModel):
    """Base of all jobs."""

    model_config = ConfigDict(frozen=True)

    needs_device: ClassVar[bool] = True
    """Whether the process that computes it has the device to itself."""

    results: str
    """The results folder; not part of any key."""
    asked_by: Asker | None = None
    """For its provenance; not part of any key. Other studies that need the job find it computed."""

    needs_states: bool = False
    """Whether a cached manifest counts only with its ``states``; not part of any key."""

    @property
    def key(self) -> str:
        """Cache key of the job."""
        raise TypeError(f"{type(self).__name__} has no cache key")

    def clock(self, kind: str, model: "ModelSetup | None", seed: int = 0) -> ProvenanceClock:
        """Return the clock of the job's provenance, started.

        Args:
            kind: covariance, edits, evaluation, ...
            model: what the job is about; None where that is no model that a study edits.
            seed: what is drawn with, 0 where nothing is.
        """
        asker = self.asked_by
        asked_for = AskedFor(
            study=None if asker is None else asker.study,
            study_id=None if asker is None else asker.study_id,
            model=None if model is None else model.spec.name,
            model_id=None if model is None else model.model_id,
        )
        return ProvenanceClock(self.key, kind, seed, asked_for)


class ModelSetup(BaseModel):
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
        return settings_id_of(self.values)


def settings_id_of(values: ValueSettings) -> str:
    """Return the id of v* settings."""
    return digest("value-settings", values)


class TemplatesJob(Job):
    """Draw, or take over, a set of context templates and encode it."""

    model: ModelSetup
    kind: str
    lengths: tuple[tuple[int, int], ...]
    seed: int
    given: tuple[str, ...] | None
    """Templates of a file; None where they are drawn from the model."""

    @property
    def key(self) -> str:
        """Cache key of the job."""
        drawn = (self.kind, self.lengths, self.seed) if self.given is None else self.given
        return unit_key("templates", self.model.model_id, drawn)


class UneditedJob(Job):
    """Measure the unedited model's perplexity on a text set."""

    model: ModelSetup
    texts: ArtifactRef
    evaluation_id: str

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key("unedited", self.model.model_id, self.texts.digest, self.evaluation_id)


class EditJob(Job):
    """Optimise v* for a batch of requests and make every method's update."""

    model: ModelSetup
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
        """Cache key of the job."""
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


class EvaluateJob(Job):
    """Measure the edited models of one batch."""

    edits: EditJob
    updates: ArtifactRef
    texts: ArtifactRef
    evaluation_id: str
    seed: int
    skipped: tuple[str, ...] = ()
    """Ids of the batch's requests that the model could not take."""

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key(
            "evaluation",
            self.edits.key,
            self.updates.digest,
            self.texts.digest,
            self.evaluation_id,
            self.seed,
        )


class RecordJob(Job):
    """Publish row files; has no cache key."""

    rows: tuple[ArtifactRef, ...]

    @property
    def label(self) -> str:
        """For people."""
        return f"{len(self.rows)} row files"


class ReportJob(Job):
    """Publish what a study has recorded."""

    study_id: str
    study_name: str
    note: str
    recorded: str
    """Digest of the row files that it covers."""
    rule: CollapseRule = DEFAULT_RULE
    """When an edit counts as a collapse."""

    @property
    def key(self) -> str:
        """Cache key of the job; the default rule is no part of it."""
        own = () if self.rule == DEFAULT_RULE else (canonical_without(self.rule, "measure"),)
        return unit_key("report", self.study_id, self.note, self.recorded, *own)


class Manifest(BaseModel):
    """Result of a job: references to files, never data."""

    model_config = ConfigDict(frozen=True)

    unit_id: str
    summary: str
    """One line for people."""
    rows: tuple[ArtifactRef, ...] = ()
    tensors: ArtifactRef | None = None
    parts: tuple[ArtifactRef, ...] = ()
    """Tensor files that others take one by one: the shards of a corpus; a file for each layer."""
    values: tuple[str, ...] = ()
    """Small results that later jobs need: the templates of a template set, the largest change at
    a checkpoint."""
    unusable: tuple[tuple[str, str], ...] = ()
    """Request id and reason of what this model could not take."""
    states: tuple[ArtifactRef, ...] = ()
    """Where a sequence's weights stand: the whole sum of updates or nothing, then factors. No part
    of ``refs``: a chunk is done without them, and the next one needs them."""

    @property
    def refs(self) -> tuple[ArtifactRef, ...]:
        """All files of the job."""
        refs = (*self.rows, *self.parts)
        return refs if self.tensors is None else (*refs, self.tensors)


def template_set_id_of(model_id: str, templates: tuple[str, ...]) -> str:
    """Return the id of a template set: its texts, under one model's tokenizer."""
    return digest("templates", model_id, templates)


class SamplesJob(Job):
    """Let a model write some rows of text, for C of its own samples."""

    model: ModelSetup
    first_row: int
    n_rows: int
    row_tokens: int
    seed: int
    label: str
    """For people: ``3 of 4``; not part of the key."""

    @property
    def key(self) -> str:
        """Cache key of the job: other layers, and a larger budget, share it."""
        rows = (self.first_row, self.n_rows, self.row_tokens)
        return unit_key("samples", self.model.model_id, rows, self.seed)


class CorpusJob(Job):
    """Cut a corpus, or what the model has written, into shards of token ids."""

    model: ModelSetup
    covariance: CovarianceSpec
    source_digest: str
    samples: tuple[ArtifactRef, ...] = ()
    """What the model has written, in order; not part of the key."""

    @property
    def key(self) -> str:
        """Cache key of the job."""
        spec = self.covariance
        return unit_key(
            "corpus",
            self.model.model_id,
            self.source_digest,
            (spec.n_tokens, spec.max_length, spec.start_token, spec.text_field),
            spec.shard_tokens,
            "two or more",
        )


class ShardJob(Job):
    """Sum k kT over the tokens of one shard, for some layers."""

    model: ModelSetup
    layers: tuple[int, ...]
    shard: ArtifactRef
    label: str
    """For people: ``3 of 12``; not part of the key."""

    @property
    def key(self) -> str:
        """Cache key of the job: another budget or corpus with the same shard shares it."""
        return unit_key("shard", self.model.model_id, self.layers, self.shard.digest)


class ProbesJob(Job):
    """Read the prefixed keys that the convergence of C is followed with, at some layers."""

    model: ModelSetup
    layers: tuple[int, ...]
    templates: tuple[str, ...]
    requests: tuple[EditRequest, ...]
    probe_set_id: str

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key("probes", self.model.model_id, self.layers, self.probe_set_id)


class CovarianceJob(Job):
    """Measure or read the second moment of one layer."""

    model: ModelSetup
    covariance: CovarianceSpec
    source_digest: str
    """Content of the corpus or of the statistics file, or how samples are drawn; empty for the
    identity."""
    probe_set_id: str = ""
    """Digest of the requests and templates that the probe keys are read from."""
    sums: tuple[ArtifactRef, ...] = ()
    """With a corpus: the layer's sum of each shard, in order; not part of the key."""
    probes: ArtifactRef | None = None
    """Probe keys; None where checkpoints have followed C already. Not part of the key."""
    convergence: tuple[ArtifactRef, ...] = ()
    """Rows that those checkpoints have left; not part of the key."""

    @property
    def covariance_id(self) -> str:
        """Digest of what decides C and how it is solved."""
        spec = self.covariance
        asked: tuple[Any, ...] = (spec.kind, self.source_digest)
        if spec.is_measured:
            asked += (spec.n_tokens, spec.max_length, spec.start_token, spec.text_field)
            if spec.stop_change is not None:
                # How many tokens C holds then depends on where and on what it is looked at.
                asked += (spec.stop_change, spec.shard_tokens, self.probe_set_id)
        damping = 0.0 if spec.kind == "identity" else spec.damping
        # The identity is the same at every layer of every model, but a row belongs to one.
        return digest("covariance", self.model.model_id, self.model.layer, asked, damping)

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key("covariance", self.covariance_id, "halves")


class CheckpointJob(Job):
    """Compare the directions that C gives to the probes with those of the checkpoint before."""

    model: ModelSetup
    covariance_id: str
    """With a stop rule: it depends on shards and probes."""
    damping: float
    probe_set_id: str
    probes: ArtifactRef
    sums: tuple[ArtifactRef, ...]
    """The layer's sum of each shard so far, in order."""
    before: ArtifactRef | None
    """Directions at the checkpoint before; None where there were none."""

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key("checkpoint", self.covariance_id, len(self.sums))

    @property
    def label(self) -> str:
        """For people: how many shards are summed."""
        return f"{len(self.sums)} shards"


class ForecastJob(Job):
    """Read the keys of a batch of requests and bound every method's update."""

    edits: EditJob
    """The batch, with all methods there are."""

    @classmethod
    def of(cls, edits: EditJob) -> "ForecastJob":
        """Return the forecast of a batch: of every method, whichever the batch itself asks for.

        Methods take microseconds, keys seconds; and a verdict names what to use instead.
        """
        whole = edits.model_copy(update={"methods": tuple(METHODS)})
        return cls(results=edits.results, edits=whole)

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key("forecast", self.edits.key, "held out")

    @property
    def label(self) -> str:
        """For people: model, layer and place in the study."""
        model = self.edits.model
        return f"{model.spec.name} layer {model.layer}, batch {self.edits.batch_label}"


@dataclasses.dataclass(frozen=True, slots=True)
class KnownSetup:
    """Set-up in which studies of a results folder edit a model, from the database."""

    layer: int
    layer_source: str
    covariance_id: str
    covariance: str
    """Kind: corpus, samples, identity or statistics."""
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
