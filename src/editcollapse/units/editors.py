"""What the jobs of editors share: equations and scales of a model's layers, and target values z*.

Equations are made of C once in a process: they cost K³, and a sequence comes back to them with
every chunk.
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from editcollapse.catalog.editor_presets import JointSettings
from editcollapse.catalog.editors import JointEditor
from editcollapse.covariance.second_moment import MomentSolver, damped, read_moment
from editcollapse.editors.joint import mean_length_of, target_site, value_lengths
from editcollapse.editors.normal_equation import NormalEquation
from editcollapse.editors.running_sum import LayerScale
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import Rewrite, build_rewrites
from editcollapse.models.loading import LoadedModel
from editcollapse.rome.value_loss import LossTerms
from editcollapse.rome.values import TargetValues
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import Manifest
from editcollapse.study.sequence_jobs import (
    EditorInputs,
    EditorSetup,
    LengthsJob,
    TargetSettings,
    TargetsJob,
)
from editcollapse.units.edit import optimise_in_groups
from editcollapse.units.prepare import Progress, load


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EditorOnModel:
    """An editor on a model: all that its edits are worked out with, of the unedited weights."""

    scales: Mapping[int, LayerScale]
    """By layer."""
    equations: Mapping[int, NormalEquation]
    """By layer; empty for editors that solve none."""
    solver: MomentSolver | None = None
    """Of a rank-one method."""

    @classmethod
    def of(
        cls, setup: EditorSetup, scales: Mapping[int, LayerScale], damping: float
    ) -> "EditorOnModel":
        """Return an editor beyond rank one on a model, its equations solved with C of the scales.

        Args:
            setup: the editor.
            scales: of each of its layers, of the unedited weights, with C undamped.
            damping: added to C's diagonal, in units of its mean; 0 for the identity.

        Raises:
            MomentError: a matrix has no Cholesky factor, or P keeps nothing.
        """
        editor = setup.row
        equations: dict[int, NormalEquation] = {}
        if isinstance(editor, JointEditor):
            assert setup.joint is not None
            for layer, scale in scales.items():
                used = damped(scale.moment, damping)
                equations[layer] = NormalEquation(used, editor, setup.joint)
        return cls(scales, equations)


_kept: dict[str, EditorOnModel] = {}
_scales: dict[tuple[str, int, str], LayerScale] = {}
_lock = threading.Lock()


def editor_on_model(
    store: ArtifactStore, loaded: LoadedModel, inputs: EditorInputs
) -> EditorOnModel:
    """Return what an editor works with on a model, the last one of this process kept.

    The model must be unedited.

    Raises:
        MomentError: a matrix has no Cholesky factor, or P keeps nothing.
        ArtifactError: a file of C is missing or has changed.
    """
    with _lock:
        if inputs.identity not in _kept:
            _kept.clear()
            _kept[inputs.identity] = _made(store, loaded, inputs)
        return _kept[inputs.identity]


def _made(store: ArtifactStore, loaded: LoadedModel, inputs: EditorInputs) -> EditorOnModel:
    scales: dict[int, LayerScale] = {}
    if any(key[0] != loaded.model_id for key in _scales):
        _scales.clear()
    for each in inputs.moments:
        key = (loaded.model_id, each.layer, each.covariance_id)
        if key not in _scales:
            moment = None if each.moment is None else read_moment(store, each.moment).matrix
            _scales[key] = layer_scale(loaded, each.layer, moment)
        scales[each.layer] = _scales[key]
    is_identity = all(each.moment is None for each in inputs.moments)
    damping = 0.0 if is_identity else inputs.damping
    if inputs.editor.settings is not None:
        return EditorOnModel.of(inputs.editor, scales, damping)
    (scale,) = scales.values()
    return EditorOnModel(scales, {}, MomentSolver(None if is_identity else scale.moment, damping))


def layer_scale(loaded: LoadedModel, layer: int, moment: Tensor | None) -> LayerScale:
    """Return what one layer's updates are compared with, of the unedited weights.

    Args:
        loaded: the model.
        layer: zero-based block.
        moment: C, (K, K), any float dtype; None for the identity.
    """
    if moment is None:
        moment = torch.eye(loaded.widths.d_key)
    return LayerScale.of(loaded.weight(layer), moment.double())


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Optimised deltas of B facts, and what the optimisation says of itself; on the CPU."""

    before: Tensor
    """z0, (B, D) float64."""
    delta: Tensor
    """(B, D) float64: z* less z0."""
    loss: LossTerms
    """(B,) each."""
    n_steps: Tensor
    """int64 (B,)."""
    clamp_hit: Tensor
    """bool (B,)."""

    @classmethod
    def of(cls, found: TargetValues) -> "Targets":
        """Return what was optimised."""
        before, delta = (each.cpu().double() for each in (found.bare_value, found.delta))
        return cls(before, delta, found.loss, found.n_steps, found.clamp_hit)

    @classmethod
    def stored(cls, store: ArtifactStore, ref: ArtifactRef) -> "Targets":
        """Return what ``optimise_targets`` has stored.

        Raises:
            ArtifactError: the file is missing or has changed.
        """
        tensors = store.tensors(ref)
        loss = LossTerms(*(tensors[field.name] for field in dataclasses.fields(LossTerms)))
        return cls(
            tensors["before"], tensors["delta"], loss, tensors["n_steps"], tensors["clamp_hit"]
        )

    def rows(self, index: slice) -> "Targets":
        """Return some of the facts."""
        terms = (getattr(self.loss, field.name) for field in dataclasses.fields(LossTerms))
        return Targets(
            self.before[index],
            self.delta[index],
            LossTerms(*(each[index] for each in terms)),
            self.n_steps[index],
            self.clamp_hit[index],
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return all by name, to be stored."""
        own = {
            "before": self.before,
            "delta": self.delta,
            "n_steps": self.n_steps,
            "clamp_hit": self.clamp_hit,
        }
        terms = {
            field.name: getattr(self.loss, field.name) for field in dataclasses.fields(LossTerms)
        }
        return own | terms


def last_layer(loaded: LoadedModel, settings: JointSettings) -> HookedLayer:
    """Return the layer at which z* stands, hooked where it does."""
    return HookedLayer(loaded, settings.layers[-1], target_site(loaded, settings.layers))


def find_targets(
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    asked: TargetSettings,
    on_step: Progress = None,
) -> Targets:
    """Return the optimised deltas of B facts on the model as it is, each by itself.

    Args:
        loaded: the model.
        rewrites: B facts with the same context templates.
        asked: where z* stands, and how it is found.
        on_step: called with passes done and the most there can be.
    """
    hooked = HookedLayer(loaded, asked.layer, target_site(loaded, (asked.layer,)))
    found = optimise_in_groups(hooked, rewrites, asked.values, on_step, asked.predicted_passes)
    return Targets.of(found)


@float32_products()
def optimise_targets(job: TargetsJob, on_step: Progress = None) -> Manifest:
    """Return z* of a batch on the unedited model, as ``Targets``' tensors.

    Requests that this model cannot take are left out.

    Raises:
        DeviceMemoryError: one fact alone does not fit on the device.
    """
    clock = job.clock("targets", job.model)
    loaded = load(job.model)
    rewrites, unusable = build_rewrites(loaded.encoder, job.templates, job.requests)
    store = ArtifactStore(job.results)
    ref = None
    if rewrites:
        asked = TargetSettings(job.layer, job.values, job.predicted_passes)
        ref = store.put_tensors("targets", find_targets(loaded, rewrites, asked, on_step).tensors())
    summary = f"z* of {len(rewrites)} requests, {job.label}"
    provenance = clock.row(summary, len(rewrites), str(loaded.device))
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(store.put_rows("provenance", [provenance]),),
        tensors=ref,
        unusable=tuple((found.request.request_id, found.reason) for found in unusable),
    )


def mean_length_over(
    loaded: LoadedModel, settings: JointSettings, rewrites: Sequence[Rewrite], delta: Tensor
) -> float:
    """Return NAS's mean length of a target value on the model as it is, the longest left out.

    Args:
        loaded: the model.
        settings: of NAS on this model.
        rewrites: B facts, of which the first ``norm_records`` count.
        delta: their optimised deltas, (B, D).
    """
    some = slice(settings.norm_records)
    lengths = value_lengths(last_layer(loaded, settings), rewrites[some], delta[some])
    return mean_length_of(lengths, settings.norm_quantile)


@float32_products()
def mean_length(job: LengthsJob) -> Manifest:
    """Return NAS's mean length of a target value as the manifest's one value.

    Source: NAS (arXiv 2602.02543): over facts on the unedited model, the longest left out.

    Raises:
        ArtifactError: a file of z* is missing or has changed.
    """
    clock = job.clock("lengths", job.inputs.model)
    loaded = load(job.inputs.model)
    store = ArtifactStore(job.results)
    settings = job.inputs.editor.joint
    assert settings is not None
    rewrites, _ = build_rewrites(loaded.encoder, job.inputs.templates, job.requests)
    delta = torch.cat([Targets.stored(store, ref).delta for ref in job.targets])
    # A batch may reach beyond the records that are wanted.
    length = mean_length_over(loaded, settings, rewrites, delta[: len(rewrites)])
    summary = f"mean length of a target value {length:.4g}, over {len(rewrites)} facts"
    provenance = clock.row(summary, len(rewrites), str(loaded.device))
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(store.put_rows("provenance", [provenance]),),
        values=(repr(length),),
    )
