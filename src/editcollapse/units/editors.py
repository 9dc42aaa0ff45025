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
from editcollapse.covariance.second_moment import MomentSolver, read_moment
from editcollapse.editors.joint import (
    goal_values,
    mean_length_of,
    target_site,
    value_lengths,
)
from editcollapse.editors.normal_equation import NormalEquation
from editcollapse.editors.running_sum import LayerScale
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import Rewrite, build_rewrites
from editcollapse.models.loading import LoadedModel
from editcollapse.rome.values import TargetValues
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import Manifest
from editcollapse.study.sequence_jobs import EditorInputs, LengthsJob
from editcollapse.units.edit import optimise_in_groups
from editcollapse.units.prepare import Progress, load


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EditorOnModel:
    """An editor on a model: all that its edits are worked out with, of the unedited weights."""

    scales: Mapping[int, LayerScale]
    """By layer."""
    equations: Mapping[int, NormalEquation]
    """By layer; empty for editors that solve none."""
    solver: MomentSolver | None
    """Of a rank-one method."""


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
    editor, setup = inputs.editor.row, inputs.editor
    scales: dict[int, LayerScale] = {}
    equations: dict[int, NormalEquation] = {}
    solver: MomentSolver | None = None
    if any(key[0] != loaded.model_id for key in _scales):
        _scales.clear()
    for each in inputs.moments:
        if each.moment is None:
            moment = torch.eye(loaded.widths.d_key, dtype=torch.float64)
        else:
            moment = read_moment(store, each.moment).matrix.double()
        key = (loaded.model_id, each.layer, each.covariance_id)
        if key not in _scales:
            _scales[key] = LayerScale.of(loaded.weight(each.layer), moment)
        scales[each.layer] = _scales[key]
        if isinstance(editor, JointEditor):
            assert setup.joint is not None
            damped = moment
            if inputs.damping and each.moment is not None:
                damped = moment.clone()
                damped.diagonal().add_(inputs.damping * moment.diagonal().mean())
            equations[each.layer] = NormalEquation(damped, editor, setup.joint)
        elif setup.settings is None:
            solver = MomentSolver(None if each.moment is None else moment, inputs.damping)
    return EditorOnModel(scales, equations, solver)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Goals:
    """Target values of B facts, and how they were found."""

    goals: Tensor
    """z*, (B, D) float64 on the CPU."""
    found: TargetValues


def find_goals(
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    editor: JointEditor,
    settings: JointSettings,
    mean_length: float | None,
    on_step: Progress = None,
) -> Goals:
    """Return z* of B facts on the model as it is, each optimised by itself.

    Args:
        loaded: the model.
        rewrites: B facts with the same context templates.
        editor: its rule for z*.
        settings: on this model.
        mean_length: NAS's m.
        on_step: called with passes done and the most there can be.
    """
    site = target_site(loaded, settings.layers)
    hooked = HookedLayer(loaded, settings.layers[-1], site)
    passes = settings.predicted_passes if editor.target == "until predicted" else None
    found = optimise_in_groups(hooked, rewrites, settings.values, on_step, passes)
    before = found.bare_value.cpu().double()
    goals = goal_values(hooked, rewrites, before, found.delta, editor, mean_length)
    return Goals(goals, found)


@float32_products()
def mean_length(job: LengthsJob, on_step: Progress = None) -> Manifest:
    """Return NAS's mean length of a target value as the manifest's one value.

    Source: NAS (arXiv 2602.02543): over facts on the unedited model, the longest left out.
    """
    clock = job.clock("lengths", job.inputs.model)
    loaded = load(job.inputs.model)
    settings = job.inputs.editor.joint
    assert settings is not None
    rewrites, _ = build_rewrites(loaded.encoder, job.inputs.templates, job.requests)
    hooked = HookedLayer(loaded, settings.layers[-1], target_site(loaded, settings.layers))
    found = optimise_in_groups(hooked, rewrites, settings.values, on_step)
    length = mean_length_of(value_lengths(hooked, rewrites, found.delta), settings.norm_quantile)
    summary = f"mean length of a target value {length:.4g}, over {len(rewrites)} facts"
    provenance = clock.row(summary, len(rewrites), str(loaded.device))
    store = ArtifactStore(job.results)
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(store.put_rows("provenance", [provenance]),),
        values=(repr(length),),
    )
