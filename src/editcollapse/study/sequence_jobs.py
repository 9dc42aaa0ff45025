"""Jobs of editors beyond rank one: single edits by them, and sequences in chunks of steps.

A chunk's key is its predecessor's key, its requests and its sequence: a sequence that was killed
goes on where it stopped, and a longer one begins with the chunks of the shorter one.
"""

import dataclasses
import json

from pydantic import BaseModel, ConfigDict

from editcollapse.catalog.editor_presets import EditorSettings, GradientSettings, JointSettings
from editcollapse.catalog.editors import (
    EDITORS,
    GradientEditor,
    JointEditor,
    Restraint,
    editor_title,
)
from editcollapse.catalog.methods import METHODS, Method
from editcollapse.catalog.presets import ValueSettings
from editcollapse.data.requests import EditRequest
from editcollapse.fingerprints import canonical, digest, unit_key
from editcollapse.rows.sequences import EditorSettingsRow
from editcollapse.rows.study import ValueSettingsRow
from editcollapse.study.artifacts import ArtifactRef
from editcollapse.study.jobs import Job, Manifest, ModelSetup


@dataclasses.dataclass(frozen=True, slots=True)
class TargetSettings:
    """What decides z* on a model: editors with the same share it."""

    layer: int
    """The last of the list."""
    values: ValueSettings
    predicted_passes: int | None
    """As for ``optimise_values``."""


class EditorSetup(BaseModel):
    """An editor as a study uses it on a model."""

    model_config = ConfigDict(frozen=True)

    name: str
    joint: JointSettings | None = None
    gradient: GradientSettings | None = None
    """Of these, the one of its family; a rank-one method has the model's own settings."""

    @property
    def row(self) -> Method | JointEditor | GradientEditor:
        """Its row in the catalog."""
        return METHODS[self.name] if self.name in METHODS else EDITORS[self.name]

    @property
    def title(self) -> str:
        """As its paper writes it."""
        return editor_title(self.name)

    @property
    def settings(self) -> EditorSettings | None:
        """Its own settings; None for a rank-one method."""
        return self.joint or self.gradient

    @property
    def targets(self) -> TargetSettings:
        """What decides z*, of a joint editor."""
        settings, row = self.joint, self.row
        assert settings is not None
        assert isinstance(row, JointEditor)
        early = row.target == "until predicted"
        passes = settings.predicted_passes if early else None
        return TargetSettings(settings.layers[-1], settings.values, passes)

    def layers(self, model: ModelSetup) -> tuple[int, ...]:
        """Return the layers that it edits, in ascending order."""
        return (model.layer,) if self.settings is None else self.settings.layers

    def source(self, model: ModelSetup) -> str:
        """Return where its settings stand."""
        return model.layer_source if self.settings is None else self.settings.source

    def settings_id(self, model: ModelSetup) -> str:
        """Return the digest of its settings on a model."""
        if self.settings is None:
            return model.settings_id
        # Where they stand changes nothing that they do.
        own = dataclasses.replace(self.settings, source="")
        return digest("editor-settings", self.name, own)

    @property
    def needs_mean_length(self) -> bool:
        """Whether it needs the mean length of a target value: NAS."""
        return isinstance(self.row, JointEditor) and self.row.target == "length of the mean"

    @property
    def is_dense(self) -> bool:
        """Whether its updates are of full rank: factors would not be smaller."""
        return isinstance(self.row, GradientEditor) or (
            isinstance(self.row, JointEditor) and self.row.masked
        )


class LayerMoment(BaseModel):
    """C of one layer, as a job refers to it."""

    model_config = ConfigDict(frozen=True)

    layer: int
    covariance_id: str
    moment: ArtifactRef | None
    """None for the identity."""


class EditorInputs(BaseModel):
    """What every job of an editor on a model needs."""

    model_config = ConfigDict(frozen=True)

    model: ModelSetup
    editor: EditorSetup
    method_templates: tuple[str, ...]
    """Context templates of rank-one methods: the study's."""
    method_template_set_id: str
    templates: tuple[str, ...]
    """Context templates of joint editors, and of the probes: the bare one and five texts."""
    template_set_id: str
    moments: tuple[LayerMoment, ...]
    """Of its layers."""
    damping: float
    lengths_key: str = ""
    """Key of the job of NAS's mean length; empty for others."""
    mean_length: float | None = None
    """What that job found; its key stands for it."""

    @property
    def identity(self) -> str:
        """Digest of all that decides an edit, but the requests."""
        return digest(
            "editor",
            self.model.model_id,
            self.editor.name,
            self.editor.settings_id(self.model),
            self.editor.layers(self.model),
            self.method_template_set_id if self.editor.name in METHODS else "",
            self.template_set_id,
            [(each.layer, each.covariance_id) for each in self.moments],
            self.lengths_key,
        )

    def settings_row(self) -> ValueSettingsRow:
        """Return the settings as a row; what fine-tuning does not have is 0."""
        setup = self.editor
        if setup.gradient is not None:
            own = setup.gradient
            values = ValueSettings(own.epochs, own.learning_rate, 0.0, 0.0, 0.0, own.stop_loss)
        else:
            values = self.model.values if setup.joint is None else setup.joint.values
        return ValueSettingsRow(
            settings_id=setup.settings_id(self.model),
            source=setup.source(self.model),
            **dataclasses.asdict(values),
        )

    def editor_row(self) -> EditorSettingsRow | None:
        """Return all of the editor's own settings as a row; None for a rank-one method."""
        setup = self.editor
        if setup.settings is None:
            return None
        joint, editor = setup.joint, setup.row
        has_moment = isinstance(editor, JointEditor) and editor.second_moment
        return EditorSettingsRow(
            settings_id=setup.settings_id(self.model),
            editor=setup.name,
            layers=list(setup.settings.layers),
            second_moment_weight=joint.second_moment_weight if joint and has_moment else None,
            settings=json.dumps(canonical(setup.settings), sort_keys=True),
            source=setup.source(self.model),
        )

    def with_length(self, job: "LengthsJob", done: Manifest) -> "EditorInputs":
        """Return the inputs with the mean length that NAS needs.

        Args:
            job: that found it.
            done: what the job returned.
        """
        found = {"lengths_key": job.key, "mean_length": float(done.values[0])}
        return self.model_copy(update=found)


class TargetsJob(Job):
    """Optimise z* of a batch of requests on the unedited model; it serves all editors alike."""

    model: ModelSetup
    layer: int
    values: ValueSettings
    predicted_passes: int | None
    """As for ``optimise_values``."""
    templates: tuple[str, ...]
    template_set_id: str
    requests: tuple[EditRequest, ...]
    batch_label: str
    """For people: ``3 of 12``; not part of the key."""

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key(
            "targets",
            self.model.model_id,
            self.layer,
            self.values,
            self.predicted_passes,
            self.template_set_id,
            [request.request_id for request in self.requests],
        )

    @property
    def label(self) -> str:
        """For people: model, layer and place in the study."""
        return f"{self.model.spec.name} layer {self.layer}, batch {self.batch_label}"


class LengthsJob(Job):
    """Find the mean length of a target value on the unedited model, for NAS."""

    inputs: EditorInputs
    requests: tuple[EditRequest, ...]
    targets: tuple[ArtifactRef, ...] = ()
    """Their z*, a file a batch; not part of the key, which says what they are."""

    @property
    def key(self) -> str:
        """Cache key of the job."""
        ids = [request.request_id for request in self.requests]
        return unit_key("lengths", self.inputs.identity, ids)


class EditorBatchJob(Job):
    """Edit a batch of requests by one editor, each the unedited model, and measure each edit."""

    inputs: EditorInputs
    requests: tuple[EditRequest, ...]
    targets: ArtifactRef | None
    """Their z*; None for fine-tuning. Not part of the key, which says what they are."""
    texts: ArtifactRef
    evaluation_id: str
    seed: int
    batch_index: int
    """Place in the study; not part of the key."""
    batch_label: str
    """For people: ``3 of 12``; not part of the key."""

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key(
            "editor-batch",
            self.inputs.identity,
            self.texts.digest,
            self.evaluation_id,
            self.seed,
            [request.request_id for request in self.requests],
        )

    @property
    def label(self) -> str:
        """For people: model, editor and place in the study."""
        return (
            f"{self.inputs.model.spec.name}, {self.inputs.editor.title}, batch {self.batch_label}"
        )

    def edit_id(self, request_id: str) -> str:
        """Return the id of one edit: the same wherever and with whatever others it is computed."""
        return digest("editor-edit", self.inputs.identity, request_id)


@dataclasses.dataclass(frozen=True, slots=True)
class SequenceGuard:
    """What is done with a step that would change text by more than a bound."""

    policy: str
    """``stop``, ``skip`` or ``roll back``."""
    bound: float
    """Of the text change."""


class SequenceChunkJob(Job):
    """Make some steps of a sequence, and measure the model after the last of them."""

    inputs: EditorInputs
    sequence_id: str
    predecessor: str
    """Key of the chunk before; empty for the first."""
    first_step: int
    """From 1."""
    steps: tuple[tuple[EditRequest, ...], ...]
    n_before: int
    """Edits asked for before this chunk."""
    is_checkpoint: bool
    """Whether the model is measured after the last step."""
    sample: tuple[tuple[int, EditRequest], ...]
    """Step and request of the edits whose final success is measured there."""
    measured: frozenset[str]
    """Ids of the chunk's requests whose success is measured right after their step: those of any
    checkpoint's sample."""
    states: tuple[ArtifactRef, ...]
    """Where the weights stand before; not part of the key, as the predecessor's stands for it."""
    rank: int
    """Of the sum of updates before, at most; likewise."""
    safe_states: tuple[ArtifactRef, ...]
    """At the last checkpoint where the model was alive; likewise."""
    safe_rank: int
    texts: ArtifactRef
    evaluation_id: str
    seed: int
    guard: SequenceGuard | None
    restraint: Restraint
    """What the measured model has of the sum of updates; the sequence's id says it."""
    order_label: str
    """For people: ``order 2``, ``order 2, 10 a step``; not part of the key."""

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key(
            "sequence-chunk",
            self.sequence_id,
            self.predecessor,
            self.first_step,
            [[request.request_id for request in step] for step in self.steps],
            self.is_checkpoint,
            [request.request_id for _, request in self.sample],
            sorted(self.measured),
        )

    @property
    def last_step(self) -> int:
        """Number of the last step."""
        return self.first_step + len(self.steps) - 1

    @property
    def n_edits(self) -> int:
        """Edits asked for up to the last step."""
        return self.n_before + sum(len(step) for step in self.steps)

    @property
    def label(self) -> str:
        """For people: model, editor, order and edits."""
        name = self.inputs.model.spec.name
        return (
            f"{name}, {self.inputs.editor.title}, {self.order_label}, edits "
            f"{self.n_before + 1} to {self.n_edits}"
        )


APPLIED, SKIPPED, ROLLED_BACK = "applied", "skipped", "rolled back"
"""Decisions on a step: made, or undone by the guard."""
UNUSABLE = "unusable"
"""Likewise: there is no fact in it that the model can take, and nothing was written."""
STOPPED = "stopped"
"""Likewise; and value of a chunk's manifest where its guard has ended the sequence."""
