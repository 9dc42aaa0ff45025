"""Edits of the unedited model by editors beyond rank one: each fact by itself, or all at once.

What a study's single edits and the library share. The changes are returned, not written: where
they are worked out on written weights, these are put back bit by bit.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from editcollapse.catalog.editors import GradientEditor, JointEditor
from editcollapse.editors.fine_tuning import FineTuned, fine_tune
from editcollapse.editors.joint import goal_values, independent_edits, joint_step
from editcollapse.editors.restraints import factors_of_rank, restrained
from editcollapse.editors.running_sum import (
    Factors,
    LayerScale,
    LayerSum,
    SumsInWeights,
    writing,
)
from editcollapse.forward.rewrites import Rewrite
from editcollapse.forward.weight_changes import LayerChange, WeightChanges
from editcollapse.models.loading import LoadedModel
from editcollapse.runtime.precision import float32_products
from editcollapse.study.sequence_jobs import EditorSetup
from editcollapse.units.editors import EditorOnModel, Targets, last_layer
from editcollapse.units.prepare import Progress


@dataclasses.dataclass(frozen=True, slots=True)
class Optimised:
    """What an optimisation says of itself; None for what an editor does not have."""

    n_steps: int
    loss: float
    nll: float
    kl: float | None
    weight_decay: float | None
    target_probability: float
    delta_norm: float | None
    value_norm: float | None
    clamp_hit: bool | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EditorEdits:
    """Edits of the unedited model: B of one fact each, or one of n facts."""

    changes: WeightChanges
    """One an edit, float64 on the CPU."""
    optimised: tuple[Optimised, ...]
    """Of each fact; of n facts that are fine-tuned together, one for all."""


@float32_products()
def edit_each(
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    setup: EditorSetup,
    on_model: EditorOnModel,
    targets: Targets | None,
    mean_length: float | None = None,
    on_step: Progress = None,
) -> EditorEdits:
    """Make B edits of one fact each, every one of the unedited model; weights stay as they are.

    Args:
        loaded: the model.
        rewrites: B facts with the same context templates.
        setup: the editor.
        on_model: what it works with.
        targets: z* of each on the unedited model; None for fine-tuning.
        mean_length: m, for NAS.
        on_step: called with steps of an optimisation done and the most there can be.
    """
    editor = setup.row
    if isinstance(editor, JointEditor):
        settings = setup.joint
        assert settings is not None
        assert targets is not None
        goals = _goals(loaded, rewrites, setup, targets, mean_length)
        changes = independent_edits(loaded, rewrites, goals, editor, settings, on_model.equations)
        return EditorEdits(changes, _optimised_targets(targets))
    assert isinstance(editor, GradientEditor)
    assert setup.gradient is not None
    tuned = [
        fine_tune(loaded, [each], editor, setup.gradient, on_step=on_step) for each in rewrites
    ]
    (layer,) = setup.gradient.layers
    change = LayerChange(layer, torch.stack([each.change for each in tuned]), None)
    return EditorEdits(WeightChanges((change,)), tuple(map(_optimised_tuning, tuned)))


@float32_products()
def edit_together(
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    setup: EditorSetup,
    on_model: EditorOnModel,
    targets: Targets | None,
    mean_length: float | None = None,
    on_step: Progress = None,
) -> EditorEdits:
    """Make one edit of n facts, as the first step of a sequence with n edits a step.

    A joint edit is worked out on written weights, layer by layer; the unedited ones are put back.

    Args:
        loaded: the model, unedited.
        rewrites: n facts with the same context templates.
        setup: the editor.
        on_model: what it works with.
        targets: z* of each on the unedited model; None for fine-tuning.
        mean_length: m, for NAS.
        on_step: called with epochs of fine-tuning done and the most there can be.
    """
    editor = setup.row
    if isinstance(editor, JointEditor):
        assert targets is not None
        changes = _joint_changes(loaded, rewrites, setup, on_model, targets, mean_length)
        return EditorEdits(changes, _optimised_targets(targets))
    assert isinstance(editor, GradientEditor)
    assert setup.gradient is not None
    tuned = fine_tune(loaded, rewrites, editor, setup.gradient, on_step=on_step)
    (layer,) = setup.gradient.layers
    change = LayerChange(layer, tuned.change[None], None)
    return EditorEdits(WeightChanges((change,)), (_optimised_tuning(tuned),))


def _joint_changes(
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    setup: EditorSetup,
    on_model: EditorOnModel,
    targets: Targets,
    mean_length: float | None,
) -> WeightChanges:
    """Return what one joint edit of n facts changes; the weights are put back."""
    editor, settings = setup.row, setup.joint
    assert isinstance(editor, JointEditor)
    assert settings is not None
    goals = _goals(loaded, rewrites, setup, targets, mean_length)
    sums = {layer: LayerSum(on_model.scales[layer]) for layer in settings.layers}
    with writing({layer: loaded.weight(layer) for layer in settings.layers}) as written:
        steps = joint_step(
            loaded,
            rewrites,
            goals,
            editor,
            settings,
            on_model.equations,
            {},
            SumsInWeights(sums, written),
        )
    changes = []
    for step in steps:
        total = sums[step.layer]
        drawn = total.total
        if editor.restraint != "none":
            drawn = restrained(drawn, total.scale.spectral_norm, editor.restraint)
        if isinstance(step.update, Factors) and drawn is total.total:
            left, right = step.update.left, step.update.right
            changes.append(LayerChange(step.layer, left[None], right[None]))
        elif isinstance(step.update, Factors):
            left, right = factors_of_rank(drawn, len(rewrites))
            changes.append(LayerChange(step.layer, left[None], right[None]))
        else:
            changes.append(LayerChange(step.layer, drawn[None], None))
    return WeightChanges(tuple(changes))


def _goals(
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    setup: EditorSetup,
    targets: Targets,
    mean_length: float | None,
) -> Tensor:
    """Return z* of facts, (B, D) float64."""
    editor, settings = setup.row, setup.joint
    assert isinstance(editor, JointEditor)
    assert settings is not None
    hooked = last_layer(loaded, settings)
    return goal_values(hooked, rewrites, targets.before, targets.delta, editor, mean_length)


def _optimised_targets(targets: Targets) -> tuple[Optimised, ...]:
    return tuple(
        Optimised(
            n_steps=int(targets.n_steps[b]),
            loss=float(targets.loss.total[b]),
            nll=float(targets.loss.nll[b]),
            kl=float(targets.loss.kl[b]),
            weight_decay=float(targets.loss.weight_decay[b]),
            target_probability=float(targets.loss.target_probability[b]),
            delta_norm=float(targets.delta[b].norm()),
            value_norm=float(targets.before[b].norm()),
            clamp_hit=bool(targets.clamp_hit[b]),
        )
        for b in range(len(targets.delta))
    )


def _optimised_tuning(tuned: FineTuned) -> Optimised:
    return Optimised(
        n_steps=tuned.n_steps,
        loss=tuned.loss,
        nll=tuned.loss,
        kl=None,
        weight_decay=None,
        target_probability=math.exp(-tuned.loss),
        delta_norm=None,
        value_norm=None,
        clamp_hit=None,
    )


_DENSE_BYTES = 256 << 20
"""Of changes of full rank that are kept at once."""


def group_size(loaded: LoadedModel, setup: EditorSetup) -> int:
    """Return how many edits are worked out at once: all where they are factors."""
    if not setup.is_dense:
        return sys.maxsize
    widths = loaded.widths
    assert setup.settings is not None
    each = 8 * widths.d_model * widths.d_key * len(setup.settings.layers)
    return max(1, _DENSE_BYTES // each)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ChangeSizes:
    """How large B edits are, without any evaluation; each (B,) float64."""

    norm: Tensor
    """Frobenius norm of the update, over all layers together."""
    relative_norm: Tensor
    """The same over that of the layers' W."""
    text_change: Tensor
    """sqrt(tr(dW C dWᵀ) / tr(W C Wᵀ)), the largest of a layer; nan where one is."""


def sizes_of(changes: WeightChanges, scales: Mapping[int, LayerScale]) -> ChangeSizes:
    """Return the sizes of some edits.

    Args:
        changes: B edits.
        scales: of each of their layers.
    """
    norms = torch.stack([_norms(each) for each in changes.layers]).norm(dim=0)
    whole = math.hypot(*(scales[each.layer].norm for each in changes.layers))
    on_text = torch.stack([_text_changes(each, scales[each.layer]) for each in changes.layers])
    return ChangeSizes(norms, norms / whole, on_text.max(dim=0).values)


def _norms(change: LayerChange) -> Tensor:
    """Return the Frobenius norm of each change, (B,) float64."""
    if change.right is None:
        norms: Tensor = change.left.flatten(1).norm(dim=1)
        return norms
    inner = (change.left.mT @ change.left) * (change.right @ change.right.mT)
    return inner.sum(dim=(1, 2)).clamp(min=0.0).sqrt()


def _text_changes(change: LayerChange, scale: LayerScale) -> Tensor:
    """Return sqrt(tr(dW C dWᵀ) / tr(W C Wᵀ)) of each change, (B,) float64, C undamped."""
    if change.right is None:
        squared = ((change.left @ scale.moment) * change.left).sum(dim=(1, 2))
    else:
        inner = change.right @ scale.moment @ change.right.mT
        squared = ((change.left.mT @ change.left) * inner).sum(dim=(1, 2))
    return squared.clamp(min=0.0).sqrt() / scale.spread
