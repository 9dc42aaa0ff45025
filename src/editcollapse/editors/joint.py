"""Joint edits: n facts at once into a list of layers, or B facts each into a model of its own.

Source: MEMIT (arXiv 2210.07229) sec. 4 and memit_main: the target values stand at the last layer;
layer by layer, from the lowest, what is missing of them is divided by the layers that are left,
and each layer's keys are read on the model as edited so far.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from editcollapse.catalog.editor_presets import JointSettings
from editcollapse.catalog.editors import JointEditor
from editcollapse.editors.normal_equation import NormalEquation
from editcollapse.editors.past_keys import PastKeys
from editcollapse.editors.restraints import masked, restrained_values
from editcollapse.editors.running_sum import Factors, SumsInWeights
from editcollapse.editors.subject_reads import current_values, mean_keys
from editcollapse.errors import StudyError
from editcollapse.forward.hooked_layer import HookedLayer, Site
from editcollapse.forward.rewrites import Rewrite
from editcollapse.forward.weight_changes import LayerChange, WeightChanges
from editcollapse.models.loading import LoadedModel

Equations = Mapping[int, NormalEquation]
"""By layer."""


def target_site(loaded: LoadedModel, layers: Sequence[int]) -> Site:
    """Return where z* stands: the block's output, or the value where a norm follows the MLP.

    With a norm between the value and the residual stream, no change of the value is a given change
    of the stream: there z* is the value itself, and only one layer can be edited for it.

    Raises:
        StudyError: several layers are asked for in such a family.
    """
    if loaded.architecture.post_mlp_norm is None:
        return "block output"
    if len(layers) > 1:
        raise StudyError(
            f"joint editors of {loaded.source} ({loaded.architecture.family}) take one layer, and "
            f"{len(layers)} were asked for: a norm stands between the MLP and the residual stream, "
            "so that what is missing there cannot be spread over layers. Give `layers` with one."
        )
    return "value"


def goal_values(
    hooked: HookedLayer,
    rewrites: Sequence[Rewrite],
    before: Tensor,
    delta: Tensor,
    editor: JointEditor,
    mean_length: float | None = None,
) -> Tensor:
    """Return the target values z* of facts, (B, D) float64 on the CPU.

    Args:
        hooked: the last layer of the list.
        rewrites: B facts.
        before: z0, (B, D) float64.
        delta: as optimised, (B, D).
        editor: NAS's rows change the length of the value.
        mean_length: m, NAS's mean length of a target value on the unedited model.

    Source: NAS (arXiv 2602.02543): with v = v0 + delta, v0 the MLP's output, an edit whose ‖v‖ is
    above 2 m is left out (v = v0), any other has v scaled to length m.
    """
    delta = delta.detach().cpu().double()
    if editor.target != "length of the mean":
        return before + delta
    assert mean_length is not None
    own = _values_in_stream(hooked, rewrites)
    length = (own + delta).norm(dim=1, keepdim=True)
    scaled = (own + delta) * (mean_length / length)
    kept = torch.where(length > 2 * mean_length, own, scaled)
    return before - own + kept


def value_lengths(hooked: HookedLayer, rewrites: Sequence[Rewrite], delta: Tensor) -> Tensor:
    """Return ‖v0 + delta‖ of facts on the model as it is, (B,) float64: NAS's lengths."""
    moved = _values_in_stream(hooked, rewrites) + delta.detach().cpu().double()
    lengths: Tensor = moved.norm(dim=1)
    return lengths


def mean_length_of(lengths: Tensor, quantile: float) -> float:
    """Return the mean of lengths, (B,), without those above a quantile of them."""
    kept = lengths[lengths <= torch.quantile(lengths, quantile)]
    return float(kept.mean())


def _values_in_stream(hooked: HookedLayer, rewrites: Sequence[Rewrite]) -> Tensor:
    """Return v0 of the bare prompts as it enters the residual stream, (B, D) float64."""
    at_value = HookedLayer(hooked.loaded, hooked.layer)
    return at_value.in_stream(current_values(at_value, rewrites))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class JointChange:
    """What one joint edit writes into one layer."""

    layer: int
    left: Tensor
    """R, (D, n) float64."""
    right: Tensor
    """Xᵀ, (n, K) float64."""
    keys: Tensor
    """Kᵀ, (n, K) float64: as read before the write."""


def joint_edit(
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    goals: Tensor,
    layers: Sequence[int],
    equations: Equations,
    past: Mapping[int, PastKeys],
    write: Callable[[JointChange], None],
) -> None:
    """Write n facts at once into the layers of a list, the lowest first.

    Args:
        loaded: the model, which ``write`` changes.
        rewrites: n facts with the same context templates.
        goals: z* of each, (n, D) float64.
        layers: in ascending order; z* stands at the last.
        equations: of each layer.
        past: of each layer, for editors that look at earlier keys; empty for others.
        write: takes each layer's change, and edits the model by it, before the next one is worked
            out.
    """
    last = HookedLayer(loaded, layers[-1], target_site(loaded, layers))
    for index, layer in enumerate(layers):
        keys = mean_keys(loaded, layer, rewrites)
        missing = goals - current_values(last, rewrites)
        share = in_value(last, missing / (len(layers) - index))
        solved = (past.get(layer) or equations[layer]).solve(keys)
        write(JointChange(layer, share.T.contiguous(), solved, keys))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LayerStep:
    """What a joint edit has left in one layer."""

    layer: int
    update: Factors | Tensor
    """dW: factors, or whole, (D, K) float64, where it is masked."""
    keys: Tensor
    """Kᵀ, (n, K) float64."""
    norm: float
    """‖dW‖, Frobenius."""


def joint_step(
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    goals: Tensor,
    editor: JointEditor,
    settings: JointSettings,
    equations: Equations,
    past: Mapping[int, PastKeys],
    sums: SumsInWeights,
) -> list[LayerStep]:
    """Make one joint edit of n facts: written into the weights, its mask after all layers.

    Args:
        loaded: the model.
        rewrites: n facts with the same context templates.
        goals: z* of each, (n, D) float64.
        editor: its row; a restraint of the sum is the caller's.
        settings: on this model.
        equations: of each layer.
        past: of each layer, for editors that look at earlier keys; its own keys are not added.
        sums: of all layers, and the model's weights that hold them.

    Returns:
        A layer each; the sums have the updates.
    """
    steps: list[LayerStep] = []
    unmasked: dict[int, JointChange] = {}

    def write(change: JointChange) -> None:
        layer = change.layer
        if editor.masked:
            # As published: the layers above are worked out on the whole update.
            unmasked[layer] = change
            sums.show(layer, change.left @ change.right)
        else:
            update = Factors(change.left, change.right)
            steps.append(LayerStep(layer, update, change.keys, sums.add(layer, update)))

    joint_edit(loaded, rewrites, goals, settings.layers, equations, past, write)
    for layer, change in unmasked.items():
        update = masked(change.left @ change.right, sums.edited(layer), settings.mask_share)
        steps.append(LayerStep(layer, update, change.keys, sums.add(layer, update)))
    return steps


def in_value(hooked: HookedLayer, change: Tensor) -> Tensor:
    """Return the change of the value that is a change of what the hooked layer's site reads."""
    if hooked.site == "value":
        return change
    return change / hooked.loaded.value_multiplier


def independent_edits(
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    goals: Tensor,
    editor: JointEditor,
    settings: JointSettings,
    equations: Equations,
) -> WeightChanges:
    """Return B edits of one fact each, every one of the unedited model; weights stay as they are.

    Each is what ``joint_edit`` of that fact alone writes, with the mask and the restraint of its
    editor; S is zero.

    Args:
        loaded: the model.
        rewrites: B facts with the same context templates.
        goals: z* of each, (B, D) float64.
        editor: its row.
        settings: on this model.
        equations: of each layer.
    """
    layers = settings.layers
    last = HookedLayer(loaded, layers[-1], target_site(loaded, layers))
    made: list[LayerChange] = []
    for index, layer in enumerate(layers):
        keys = mean_keys(loaded, layer, rewrites, made)
        missing = goals - current_values(last, rewrites, made)
        left = in_value(last, missing / (len(layers) - index))
        right = equations[layer].solve_each(keys)
        made.append(LayerChange(layer, left[:, :, None], right[:, None]))
    if editor.masked:
        # As published: all layers are written whole, then masked.
        made = [_masked(loaded, change, settings.mask_share) for change in made]
    changes = WeightChanges(tuple(made))
    return changes if editor.restraint == "none" else _restrained(loaded, changes, editor)


def _masked(loaded: LoadedModel, change: LayerChange, share: float) -> LayerChange:
    """Return rank-one changes of which only the entries of largest relative change are left."""
    assert change.right is not None
    weight = loaded.weight(change.layer).detach().cpu().double()
    return LayerChange(change.layer, masked(change.left @ change.right, weight, share), None)


def _restrained(loaded: LoadedModel, changes: WeightChanges, editor: JointEditor) -> WeightChanges:
    """Return rank-one changes with their one singular value restrained."""
    found = []
    for change in changes.layers:
        assert change.right is not None
        size = change.left.norm(dim=(1, 2)) * change.right.norm(dim=(1, 2))
        weight = loaded.weight(change.layer).detach().cpu().double()
        largest = float(torch.linalg.matrix_norm(weight, ord=2))
        factor = restrained_values(size, largest, editor.restraint) / size.clamp(min=1e-300)
        found.append(dataclasses.replace(change, left=change.left * factor[:, None, None]))
    return WeightChanges(tuple(found))
