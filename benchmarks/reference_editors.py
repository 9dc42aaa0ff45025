"""The published sequential editors, written plainly after their public code.

This is what sequences are timed against: whole forwards of transformers' own model with hooks, z*
of one fact at a time with all its contexts in one padded batch and the gradient through the whole
model, keys of every layer by whole forwards, one dense float64 solve a layer and step, updates
written into the weights and kept. Nothing is wasted on purpose: C and P are at hand, the solve has
n right-hand sides, and updates are written once, where the public code writes, restores and writes
again.

Sources: kmeng01/memit (memit_main, compute_z, compute_ks; baselines/ft), jianghoucheng/AlphaEdit
(AlphaEdit_main, memit_seq_main, memit_rect_main), unified-model-editing (EMMET),
knowledge-editing-regularization (ENCORE), SasyaTitech/NAS, mjy1111/PRUNE, zjunlp/EasyEdit (FT-M).

Letters: n facts of a step, D width of the residual stream, K width of the MLP.
"""

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from benchmarks.published import Published, padded, wide
from benchmarks.reference import edit, optimise, read
from editcollapse.catalog.editor_presets import (
    IDENTITY_SHARE,
    KEPT_SHARE,
    EditorSettings,
    GradientSettings,
    JointSettings,
)
from editcollapse.catalog.editors import Editor, GradientEditor, JointEditor
from editcollapse.catalog.methods import Method
from editcollapse.catalog.presets import ValueSettings
from editcollapse.forward.rewrites import Rewrite
from editcollapse.models.loading import LoadedModel
from editcollapse.models.tokenization import SubjectSequence

_DIVISION = 1e-8
"""RECT's guard against a division by zero."""
_BASES = {"log": math.e, "log2": 2.0, "log1_5": 1.5, "log1_2": 1.2}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """The layers that an editor edits, in the reference's model."""

    at: Mapping[int, Published]
    """By layer, in ascending order."""
    site: nn.Module
    """Whose output z* replaces: the last layer's block, or its projection where a norm follows."""
    multiplier: float
    """What a value is multiplied by on its way to the residual stream; 1 where z* is a value."""

    @classmethod
    def of(cls, loaded: LoadedModel, model: nn.Module, layers: Sequence[int]) -> "Layers":
        """Return the layers of a model of its own.

        Args:
            loaded: our copy, which tells where things are.
            model: the reference's.
            layers: in ascending order.
        """
        row = loaded.architecture
        blocks = {layer: f"{row.decoder}.{row.blocks}.{layer}" for layer in layers}
        at = {
            layer: Published(
                model=model,
                projection=model.get_submodule(f"{path}.{row.down_projection}"),
                transposed=row.transposed,
                n_positions=loaded.encoder.max_length,
            )
            for layer, path in blocks.items()
        }
        last = layers[-1]
        if row.post_mlp_norm is not None:
            return cls(at, at[last].projection, 1.0)
        return cls(at, model.get_submodule(blocks[last]), loaded.value_multiplier)

    @property
    def last(self) -> Published:
        """The last one, at which z* is found."""
        return self.at[max(self.at)]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """What public code has on the disk before the first edit; on the model's device."""

    moments: Mapping[int, Tensor]
    """C by layer, (K, K) float64."""
    inverse: Tensor | None = None
    """C⁻¹ of a rank-one method's layer, (K, K) float64."""
    projections: Mapping[int, Tensor] = dataclasses.field(default_factory=dict)
    """P by layer, (K, K) float64."""
    ridges: Mapping[int, float] = dataclasses.field(default_factory=dict)
    """L2, or lambda_n, by layer."""
    mean_length: float | None = None
    """NAS's."""

    @classmethod
    def of(
        cls,
        editor: Editor,
        settings: EditorSettings | None,
        moments: Mapping[int, Tensor],
        mean_length: float | None = None,
    ) -> "Statistics":
        """Return what an editor needs.

        Args:
            editor: its row.
            settings: on the model; None for a rank-one method.
            moments: C by layer.
            mean_length: NAS's.

        Source: AlphaEdit's get_project, by singular vectors.
        """
        if isinstance(editor, Method):
            (moment,) = moments.values()
            inverse = torch.linalg.inv(moment)  # noqa: TID251  the published code inverts
            return cls(moments, inverse.contiguous())
        projections, ridges = {}, {}
        if isinstance(editor, JointEditor):
            assert isinstance(settings, JointSettings)
            for layer, moment in moments.items():
                if editor.projected:
                    kept = projections[layer] = _projection(moment, settings.nullspace_threshold)
                    own = float((kept * moment).sum())
                    ridges[layer] = own if settings.ridge is None else settings.ridge
                elif settings.identity_weight is None:
                    mean = float(moment.diagonal().mean())
                    ridges[layer] = IDENTITY_SHARE * settings.second_moment_weight * mean
                else:
                    ridges[layer] = settings.identity_weight
        return cls(moments, None, projections, ridges, mean_length)


def _projection(moment: Tensor, threshold: float | None) -> Tensor:
    """Return P, (K, K), onto the directions of C's smallest singular values."""
    vectors, values, _ = torch.linalg.svd(moment)
    if threshold is None:
        kept = torch.zeros_like(values, dtype=torch.bool)
        kept[-max(1, int(KEPT_SHARE * len(values))) :] = True  # descending
    else:
        kept = values < threshold
    some = vectors[:, kept]
    projection: Tensor = some @ some.T
    return projection


class EditedModel:
    """A model that is edited step by step; its weights keep what is written until ``put_back``.

    Args:
        layers: that are edited.
        editor: its row.
        settings: on the model; None for a rank-one method.
        values: of v*, for a rank-one method.
        known: what is prepared.
    """

    def __init__(
        self,
        layers: Layers,
        editor: Editor,
        settings: EditorSettings | None,
        values: ValueSettings,
        known: Statistics,
    ) -> None:
        self._layers, self._editor, self._settings = layers, editor, settings
        self._values, self._known = values, known
        self._unedited = {layer: each.matrix.clone() for layer, each in layers.at.items()}
        self._past: dict[int, Tensor] = {}

    @property
    def totals(self) -> dict[int, Tensor]:
        """The edited weights less the unedited ones, (D, K) float64 by layer, as PRUNE has it."""
        found = {}
        for layer, each in self._layers.at.items():
            total = each.matrix.double() - self._unedited[layer].double()
            found[layer] = self._restrained(total, self._unedited[layer].double())
        return found

    def put_back(self) -> None:
        """Put the unedited weights back, and forget all keys."""
        for layer, each in self._layers.at.items():
            each.matrix.copy_(self._unedited[layer])
        self._past.clear()

    def step(self, rewrites: Sequence[Rewrite]) -> None:
        """Make one step: n facts at once; a rank-one method takes them one after the other."""
        if isinstance(self._editor, Method):
            self._rank_one(rewrites, self._editor)
        elif isinstance(self._editor, JointEditor):
            self._joint(rewrites, self._editor)
        else:
            self._tune(rewrites, self._editor)

    def _rank_one(self, rewrites: Sequence[Rewrite], method: Method) -> None:
        published = self._layers.last
        for rewrite in rewrites:
            found = edit(published, rewrite, method.name, self._known.inverse, self._values)
            change = torch.outer(found.left, found.right.to(found.left.dtype))
            published.matrix.add_(change)

    def _joint(self, rewrites: Sequence[Rewrite], editor: JointEditor) -> None:
        """Source: memit_main.execute_memit, apply_AlphaEdit_to_model, memit_rect_main."""
        settings, layers = self._settings, self._layers
        assert isinstance(settings, JointSettings)
        goals = torch.stack([self._goal(each, editor, settings) for each in rewrites], dim=1)
        bare = [each.prompts[0] for each in rewrites]
        before = {layer: each.matrix.clone() for layer, each in layers.at.items()}
        changes: dict[int, Tensor] = {}
        for index, (layer, published) in enumerate(layers.at.items()):
            keys = _keys(published, rewrites)
            missing = goals - _outputs(published, layers.site, bare).T
            share = missing / (len(layers.at) - index) / layers.multiplier
            changes[layer] = share @ self._solved(layer, keys, editor, settings).T
            published.matrix.add_(changes[layer].to(published.matrix.dtype))
            if editor.past == "before the write":
                self._remember(layer, keys)
        if editor.masked:
            for layer, published in layers.at.items():
                kept = _masked(changes[layer], before[layer].double(), settings.mask_share)
                published.matrix.copy_(before[layer] + kept.to(before[layer].dtype))
        if editor.past == "after the write":
            for layer, published in layers.at.items():
                self._remember(layer, _keys(published, rewrites))

    def _goal(self, rewrite: Rewrite, editor: JointEditor, settings: JointSettings) -> Tensor:
        """Return z* of one fact, (D,) float64. Source: compute_z; NAS's, which rescales."""
        published, layers = self._layers.last, self._layers
        passes = settings.predicted_passes if editor.target == "until predicted" else None
        delta, before, _ = optimise(published, rewrite, settings.values, layers.site, passes)
        delta, before = delta.double(), before.double()
        if editor.target != "length of the mean":
            return before + delta
        mean = self._known.mean_length
        assert mean is not None
        own = read(published, rewrite.prompts[:1])[1][0].double() * layers.multiplier
        length = (own + delta).norm()
        moved = own if length > 2 * mean else (own + delta) * mean / length
        return before - own + moved

    def _solved(
        self, layer: int, keys: Tensor, editor: JointEditor, settings: JointSettings
    ) -> Tensor:
        """Return X, (K, n) float64, with dW = R Xᵀ."""
        found: Tensor
        eye = torch.eye(len(keys), dtype=keys.dtype, device=keys.device)
        past = self._past.get(layer, torch.zeros_like(eye))
        ridge = self._known.ridges[layer]
        if editor.projected:
            kept = self._known.projections[layer]
            found = torch.linalg.solve(kept @ (keys @ keys.T + past) + ridge * eye, kept @ keys)
            return found
        whole = settings.second_moment_weight * self._known.moments[layer]
        if ridge:
            whole = whole + ridge * eye
        if editor.equality:
            inner = torch.linalg.solve(whole, keys)
            small = keys.T @ inner
            n_facts = len(small)
            if n_facts > 1:
                small = small + settings.constraint_ridge * eye[:n_facts, :n_facts]
            found = torch.linalg.solve(small, inner.T).T
            return found
        if editor.past != "none":
            whole = whole + past
        found = torch.linalg.solve(whole + keys @ keys.T, keys)
        return found

    def _remember(self, layer: int, keys: Tensor) -> None:
        """Add keys to a layer's S."""
        gram = keys @ keys.T
        self._past[layer] = self._past[layer] + gram if layer in self._past else gram

    def _tune(self, rewrites: Sequence[Rewrite], editor: GradientEditor) -> None:
        """Source: kmeng01/memit baselines/ft execute_ft; EasyEdit's FT-M has the other loss."""
        settings, published = self._settings, self._layers.last
        assert isinstance(settings, GradientSettings)
        (layer,) = settings.layers
        weight = published.projection.weight
        assert isinstance(weight, nn.Parameter)
        weight.requires_grad = True
        adam = torch.optim.Adam([weight], lr=settings.learning_rate)
        shuffles = random.Random(settings.seed)
        for _ in range(settings.epochs):
            order = list(range(len(rewrites)))
            if editor.shuffled:
                shuffles.shuffle(order)
            total = 0.0
            for first in range(0, len(order), settings.batch_size):
                some = [rewrites[n] for n in order[first : first + settings.batch_size]]
                adam.zero_grad()
                loss = _target_loss(published, some, editor)
                total += loss.item() * len(some)
                if loss.item() >= settings.stop_loss:
                    loss.backward()  # type: ignore[no-untyped-call]
                    adam.step()
                if settings.norm_bound is not None:
                    bound, unedited = settings.norm_bound, self._unedited[layer]
                    published.matrix.clamp_(unedited - bound, unedited + bound)
            if total / len(order) < settings.stop_loss:
                break
        weight.requires_grad = False
        weight.grad = None

    def _restrained(self, total: Tensor, unedited: Tensor) -> Tensor:
        """Return the sum of all updates as it is measured. Source: PRUNE's bi_editor_loadw."""
        restraint = self._editor.restraint if isinstance(self._editor, JointEditor) else "none"
        if restraint == "none":
            return total
        limit = float(torch.linalg.matrix_norm(unedited, ord=2))
        left, sizes, right = torch.linalg.svd(total, full_matrices=False)
        if restraint == "linear":
            drawn = (sizes + limit) / 2
        else:
            base = math.log(_BASES[restraint])
            drawn = (sizes.log() - math.log(limit)) / base + limit
        kept: Tensor = (left * torch.where(sizes >= limit, drawn, sizes)) @ right
        return kept


def _keys(published: Published, rewrites: Sequence[Rewrite]) -> Tensor:
    """Return MEMIT's keys, (K, n) float64: half the bare prompt, half the mean of other contexts.

    Source: compute_ks: all contexts of all facts in one padded batch.
    """
    found = read(published, [prompt for each in rewrites for prompt in each.prompts])[0].double()
    keys = found.view(len(rewrites), -1, found.shape[1])
    if keys.shape[1] == 1:
        return keys[:, 0].T
    return ((keys[:, 0] + keys[:, 1:].mean(dim=1)) / 2).T


@torch.no_grad()
def _outputs(published: Published, site: nn.Module, prompts: Sequence[SubjectSequence]) -> Tensor:
    """Return a module's outputs at each prompt's subject, (n, D) float64, by one whole forward."""
    ids, mask = padded([prompt.ids for prompt in prompts], published.device)
    seen: list[Tensor] = []
    hook = site.register_forward_hook(
        lambda _module, _inputs, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    with hook:
        published.model(input_ids=ids, attention_mask=mask, use_cache=False)
    where = torch.tensor([prompt.subject_last for prompt in prompts], device=ids.device)
    return wide(seen[0][torch.arange(len(prompts), device=ids.device), where]).double()


def _masked(change: Tensor, weight: Tensor, share: float) -> Tensor:
    """Return the entries of largest relative change. Source: memit_rect_main."""
    relative = (change / (weight + _DIVISION)).abs()
    rank = int(relative.numel() * (100 - 100 * share) / 100)
    bound = torch.kthvalue(relative.flatten(), max(1, rank)).values
    return torch.where(relative >= bound, change, torch.zeros_like(change))


def _target_loss(
    published: Published, rewrites: Sequence[Rewrite], editor: GradientEditor
) -> Tensor:
    """Return the mean over facts of the target's mean NLL behind the bare prompt."""
    forced = editor.objective == "teacher forced"
    rows = [each.prompts[0].ids + (each.target[:-1] if forced else ()) for each in rewrites]
    ids, mask = padded(rows, published.device)
    logits = published.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    losses = []
    for row, rewrite in zip(logits, rewrites, strict=True):
        target = torch.tensor(rewrite.target, device=ids.device)
        first = len(rewrite.prompts[0].ids) - 1
        places = torch.arange(len(target), device=ids.device) if forced else 0 * target
        log_probs = torch.log_softmax(wide(row[first + places]), dim=1)
        losses.append(-log_probs.gather(1, target[:, None]).mean())
    return torch.stack(losses).mean()
