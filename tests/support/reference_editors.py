"""Joint and gradient editors as plainly as they can be written: the oracle of the float64 tests.

Straight from the specification (design: editors_and_sequences.md 2.1-2.3; algorithms.md 1.1,
1.5-1.9): full forwards of the whole model, one row at a time, no cache, weights really changed in
place. Of ``editcollapse`` only data is used: token ids of ``Rewrite``, paths of modules, the rows
of ``catalog.editors``. Functions that write do so into the model that they are given; ``sequence``
works on a copy.

Letters: D width of the stream, K width of the MLP, V vocabulary, n facts of a step, L layers of the
list. W (D, K), keys (K, n), residuals (D, n), C, S and P (K, K). Logarithms are natural.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from editcollapse.catalog.editors import GradientEditor, JointEditor
from editcollapse.catalog.methods import Method
from editcollapse.forward.rewrites import Rewrite
from editcollapse.models.loading import LoadedModel
from editcollapse.models.tokenization import SubjectSequence
from tests.support import reference

_DIVISION = 1e-8
"""RECT's guard against a division by zero."""
_BASES = {"log": math.e, "log2": 2.0, "log1_5": 1.5, "log1_2": 1.2}


@dataclass(frozen=True)
class Settings:
    """Everything that an editor is set to; what a row does not use is not looked at."""

    layers: tuple[int, ...] = (1,)
    # z*, and Adam of the gradient editors.
    steps: int = 5
    learning_rate: float = 0.5
    weight_decay: float = 0.5
    kl_factor: float = 0.0625
    clamp_factor: float = 0.75
    stop_loss: float = 0.05
    predicted_passes: int = 2  # MPES: |prob_cutoff|
    mean_value_norm: float = 1.0  # NAS: m
    # The normal equation.
    second_moment_weight: float = 1.0  # lambda
    identity_weight: float = 10.0  # lambda_n
    equality_ridge: float = 0.1  # EMMET's, for n > 1 only
    nullspace_threshold: float = 2e-2
    ridge: float = 10.0  # L2
    mask_share: float = 0.4  # RECT
    # Gradient editors.
    epochs: int = 25
    norm_bound: float = 5e-4
    tuned_loss: float = 1e-2
    batch_size: int = 1
    seed: int = 0


def some_settings(layers: tuple[int, ...], mean_length: float, epochs: int = 4) -> Settings:
    """Return settings of a few passes on a tiny model, each away from its default."""
    return Settings(
        layers=layers,
        steps=4,
        nullspace_threshold=0.8,
        mean_value_norm=mean_length,
        second_moment_weight=0.7,
        identity_weight=0.3,
        ridge=0.5,
        epochs=epochs,
        learning_rate=0.05,
        norm_bound=0.04,
        batch_size=2,
    )


# --- The model: what is read, what is added, what is written -------------------------------------


def copied(loaded: LoadedModel) -> LoadedModel:
    """Return the model with weights of its own."""
    return dataclasses.replace(loaded, model=copy.deepcopy(loaded.model))


def matrix(loaded: LoadedModel, layer: int) -> Tensor:
    """Return W (D, K) of a layer: a view, so that writing into it changes the model."""
    stored = loaded.down_projection(layer).weight.data
    return stored.T if loaded.architecture.transposed else stored


def _tokens(states: Any) -> Tensor:
    """Return the states of the one row, (T, ...), of a module's input or output."""
    states = states[0] if isinstance(states, tuple) else states
    return states.reshape(-1, states.shape[-1])


def log_probs(loaded: LoadedModel, ids: Sequence[int]) -> Tensor:
    """Return (T, V) log-probabilities of one row: a full forward."""
    logits = loaded.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    return torch.log_softmax(logits, dim=-1)


@dataclass(frozen=True)
class Reading:
    """What passes a layer at one token."""

    key: Tensor  # (K,): input of the down projection
    value: Tensor  # (D,): its output, bias included
    stream: Tensor  # (D,): output of the block


def read(loaded: LoadedModel, layer: int, row: SubjectSequence) -> Reading:
    """Return what passes a layer at the subject's last token of a prompt."""
    seen: dict[str, Tensor] = {}

    def at_projection(_module: object, args: tuple[Tensor, ...], out: Tensor) -> None:
        # Copied at once: what comes after may add to the output in place.
        seen["key"] = _tokens(args)[row.subject_last].clone()
        seen["value"] = _tokens(out)[row.subject_last].clone()

    def at_block(_module: object, _args: object, out: Any) -> None:
        seen["stream"] = _tokens(out)[row.subject_last].clone()

    with (
        torch.no_grad(),
        loaded.down_projection(layer).register_forward_hook(at_projection),
        loaded.blocks[layer].register_forward_hook(at_block),
    ):
        log_probs(loaded, row.ids)
    return Reading(**seen)


def has_norm_behind(loaded: LoadedModel) -> bool:
    """Whether a norm stands between value and stream: then z is the value itself."""
    return loaded.architecture.post_mlp_norm is not None


def read_z(loaded: LoadedModel, layer: int, row: SubjectSequence) -> Tensor:
    """Return what z* is a target for, (D,): the block's output, or the value before a norm."""
    found = read(loaded, layer, row)
    return found.value if has_norm_behind(loaded) else found.stream


@contextlib.contextmanager
def added(loaded: LoadedModel, layer: int, index: int, delta: Tensor) -> Iterator[None]:
    """Add ``delta`` (D,) to z at one token."""

    def add(_module: object, _args: object, out: Any) -> Any:
        states = out[0] if isinstance(out, tuple) else out
        at = torch.zeros(_tokens(states).shape[0], 1, dtype=delta.dtype)
        at[index] = 1.0
        moved = states + (at * delta).view_as(states)
        return (moved, *out[1:]) if isinstance(out, tuple) else moved

    norm = has_norm_behind(loaded)
    module = loaded.down_projection(layer) if norm else loaded.blocks[layer]
    with module.register_forward_hook(add):
        yield


# --- 2.1: z* and keys ----------------------------------------------------------------------------


@dataclass(frozen=True)
class TargetValue:
    """z* of one fact."""

    z: Tensor  # (D,)
    z0: Tensor  # (D,): before, of the bare prompt
    delta: Tensor  # (D,): what was optimised; z - z0 but for NAS
    losses: tuple[float, ...]  # of each pass, before its step


def target_value(
    loaded: LoadedModel, rewrite: Rewrite, layer: int, settings: Settings, rule: str = "plain"
) -> TargetValue:
    """Return z* of one fact at one layer, on the model as it is (2.1; MPES and NAS: 2.2).

    The KL is KL(now || before), which is what ``kl_div(before, now, log_target=True)`` computes.
    "until predicted": passes in which every target token of every row but the bare one is the arg
    max are counted, in a row or not; the one that completes the count takes no step.
    """
    target = list(rewrite.target)
    bare, kl_row = rewrite.prompts[0], rewrite.kl_prompt
    z0 = read_z(loaded, layer, bare)
    delta = torch.zeros_like(z0, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=settings.learning_rate)
    with torch.no_grad():
        before = log_probs(loaded, kl_row.ids)[kl_row.subject_last]
    losses: list[float] = []
    predicted = 0
    for step in range(settings.steps):
        nll = torch.zeros((), dtype=z0.dtype)
        right: list[bool] = []
        for prompt in rewrite.prompts:
            with added(loaded, layer, prompt.subject_last, delta):
                rows = log_probs(loaded, [*prompt.ids, *target[:-1]])[len(prompt.ids) - 1 :]
            picked = sum(rows[j, token] for j, token in enumerate(target))
            nll = nll - picked / len(target) / len(rewrite.prompts)
            right.append(rows.argmax(dim=-1).tolist() == target)
        with added(loaded, layer, kl_row.subject_last, delta):
            now = log_probs(loaded, kl_row.ids)[kl_row.subject_last]
        kl = settings.kl_factor * (now.exp() * (now - before)).sum()
        decay = settings.weight_decay * torch.norm(delta) / torch.norm(z0) ** 2
        loss = nll + kl + decay
        losses.append(loss.item())
        if rule == "until predicted" and all(right[1:]):
            predicted += 1
            if predicted == settings.predicted_passes:
                break
        if losses[-1] < settings.stop_loss or step == settings.steps - 1:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            limit = settings.clamp_factor * torch.norm(z0)
            if torch.norm(delta) > limit:
                delta.mul_(limit / torch.norm(delta))
    delta = delta.detach()
    z = z0 + delta
    if rule == "length of the mean":
        v0 = read(loaded, layer, bare).value * loaded.value_multiplier
        z = (z0 - v0) + of_mean_length(v0, delta, settings.mean_value_norm)
    return TargetValue(z, z0, delta, tuple(losses))


def of_mean_length(v0: Tensor, delta: Tensor, mean_norm: float) -> Tensor:
    """Return NAS's value: v0 + delta at the length m; v0 where it is longer than 2 m."""
    v = v0 + delta
    return v0 if torch.norm(v) > 2 * mean_norm else v * mean_norm / torch.norm(v)


def mean_keys(loaded: LoadedModel, rewrite: Rewrite, layer: int) -> Tensor:
    """Return a fact's key (K,): half of the bare prompt, half of the mean of the other contexts."""
    bare, *others = [read(loaded, layer, prompt).key for prompt in rewrite.prompts]
    return (bare + sum(others) / len(others)) / 2 if others else bare


# --- 2.2: one normal equation --------------------------------------------------------------------


def null_projection(C: Tensor, threshold: float) -> Tensor:
    """Return P (K, K): onto the left singular vectors of C with singular values below a number."""
    U, sigma, _ = torch.linalg.svd(C)
    U = U[:, sigma < threshold]
    return U @ U.T


def solved(
    row: JointEditor, settings: Settings, keys: Tensor, C: Tensor, S: Tensor | None = None
) -> Tensor:
    """Return X (K, n) with dW = R Xᵀ, by the formula of an editor's row."""
    n = keys.shape[1]
    eye = torch.eye(len(keys), dtype=keys.dtype)
    A = torch.zeros_like(eye)
    if row.second_moment:
        A = A + settings.second_moment_weight * C
    if row.identity:
        A = A + settings.identity_weight * eye
    if row.past != "none" and S is not None:
        A = A + S
    if row.equality:
        inner = torch.linalg.solve(A, keys)  # C'⁻¹ K
        D = keys.T @ inner
        if n > 1:
            D = D + settings.equality_ridge * torch.eye(n, dtype=keys.dtype)
        return torch.linalg.solve(D, inner.T).T
    A = A + keys @ keys.T
    if row.projected:
        P = null_projection(C, settings.nullspace_threshold)
        return torch.linalg.solve(P @ A + settings.ridge * eye, P @ keys)
    return torch.linalg.solve(A, keys)


def masked(change: Tensor, weight: Tensor, share: float) -> Tensor:
    """Return dW with the entries of smallest |dW / (W + 1e-8)| set to 0 (RECT).

    The threshold is the entry of rank ⌊(1 - share) DK⌋ from below; entries at it are kept.
    """
    ratio = (change / (weight + _DIVISION)).abs()
    rank = int(ratio.numel() * (100 - 100 * share) / 100)
    threshold = ratio.flatten().sort().values[max(rank, 1) - 1]
    return torch.where(ratio >= threshold, change, torch.zeros_like(change))


@dataclass(frozen=True)
class JointStep:
    """One step of a joint editor; dictionaries by layer."""

    targets: tuple[TargetValue, ...]
    keys: Mapping[int, Tensor]  # (K, n), as they were solved with
    residuals: Mapping[int, Tensor]  # (D, n): this layer's share, in units of the value
    changes: Mapping[int, Tensor]  # (D, K): what was written
    past: Mapping[int, Tensor]  # (K, K): S after the step


def joint_edit(
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    row: JointEditor,
    settings: Settings,
    moments: Mapping[int, Tensor],
    past: Mapping[int, Tensor] | None = None,
) -> JointStep:
    """Write n facts into the model at once (2.1, 2.2).

    RECT as published: layer by layer the whole update is written, so that keys and residuals of
    later layers see it, and only then every layer's mask is applied to the weights as they were.
    """
    layers = settings.layers
    if has_norm_behind(loaded) and len(layers) != 1:
        raise ValueError("a norm stands behind the MLP: one layer only")
    last = layers[-1]
    before = {layer: matrix(loaded, layer).clone() for layer in layers}
    past = dict(past or {layer: torch.zeros_like(moments[layer]) for layer in layers})
    targets = [target_value(loaded, each, last, settings, row.target) for each in rewrites]
    keys, residuals, changes = {}, {}, {}
    for i, layer in enumerate(layers):
        keys[layer] = _keys(loaded, rewrites, layer)
        missing = []
        for target, rewrite in zip(targets, rewrites, strict=True):
            missing.append(target.z - read_z(loaded, last, rewrite.prompts[0]))
        share = torch.stack(missing, dim=1) / (len(layers) - i)
        residuals[layer] = share / loaded.value_multiplier
        X = solved(row, settings, keys[layer], moments[layer], past[layer])
        changes[layer] = residuals[layer] @ X.T
        matrix(loaded, layer).add_(changes[layer])
    if row.masked:
        for layer in layers:
            changes[layer] = masked(changes[layer], before[layer], settings.mask_share)
            matrix(loaded, layer).copy_(before[layer] + changes[layer])
    if row.past != "none":
        for layer in layers:
            K = keys[layer]
            if row.past == "after the write":
                K = _keys(loaded, rewrites, layer)
            past[layer] = past[layer] + K @ K.T
    return JointStep(tuple(targets), keys, residuals, changes, past)


def _keys(loaded: LoadedModel, rewrites: Sequence[Rewrite], layer: int) -> Tensor:
    """Return the keys (K, n) of all facts on the model as it is."""
    return torch.stack([mean_keys(loaded, rewrite, layer) for rewrite in rewrites], dim=1)


# --- PRUNE ---------------------------------------------------------------------------------------


def restrained(sigma: Tensor, limit: float, how: str) -> Tensor:
    """Return singular values with those from ``limit`` on mapped: (s + limit) / 2, or by a log."""
    if how == "linear":
        moved = (sigma + limit) / 2
    else:
        base = math.log(_BASES[how])
        moved = sigma.log() / base - math.log(limit) / base + limit
    return torch.where(sigma >= limit, moved, sigma)


def pruned(delta_sum: Tensor, w0: Tensor, how: str) -> Tensor:
    """Return D' (D, K) of the sum D of all updates and the unedited W0; W0 + D' is measured."""
    if how == "none":
        return delta_sum
    U, sigma, Vh = torch.linalg.svd(delta_sum, full_matrices=False)
    rank = int(torch.linalg.matrix_rank(delta_sum))
    limit = float(torch.linalg.svdvals(w0).max())
    moved = restrained(sigma, limit, how)
    return U[:, :rank] @ torch.diag(moved[:rank]) @ Vh[:rank]


# --- 2.3: fine-tuning ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Tuned:
    """One step of a gradient editor."""

    change: Tensor  # (D, K)
    losses: tuple[float, ...]  # mean over the facts of each epoch, before each batch's step


def fact_loss(loaded: LoadedModel, rewrite: Rewrite, objective: str) -> Tensor:
    """Return a fact's loss on the bare prompt: the mean over its target tokens."""
    ids, target = list(rewrite.prompts[0].ids), list(rewrite.target)
    if objective == "last prompt token":
        row = log_probs(loaded, ids)[-1]
        return -sum(row[token] for token in target) / len(target)
    rows = log_probs(loaded, [*ids, *target[:-1]])[len(ids) - 1 :]
    return -sum(rows[j, token] for j, token in enumerate(target)) / len(target)


def fine_tune(
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    layer: int,
    settings: Settings,
    row: GradientEditor,
    unedited: Tensor | None = None,
) -> Tuned:
    """Tune one layer's W on n facts; ``unedited``: W0 (D, K) of the bound, else W as it is.

    One Adam and one ``random.Random(seed)`` a call; each epoch shuffles the facts from their own
    order. A batch whose loss is below the limit takes no step, and its loss counts in the mean.
    """
    weight = loaded.down_projection(layer).weight
    start = matrix(loaded, layer).clone()
    bound = start if unedited is None else unedited
    weight.requires_grad_(True)
    adam = torch.optim.Adam([weight], lr=settings.learning_rate)
    drawing = random.Random(settings.seed)
    losses: list[float] = []
    for _ in range(settings.epochs):
        order = list(range(len(rewrites)))
        if row.shuffled:
            drawing.shuffle(order)
        total = 0.0
        for first in range(0, len(order), settings.batch_size):
            batch = order[first : first + settings.batch_size]
            loss = sum(fact_loss(loaded, rewrites[b], row.objective) for b in batch) / len(batch)
            total += loss.item() * len(batch)
            if loss.item() < settings.tuned_loss:
                continue
            adam.zero_grad()
            loss.backward()
            adam.step()
            if row.bounded:
                W, eps = matrix(loaded, layer), settings.norm_bound
                W.copy_(torch.clamp(W, min=bound - eps, max=bound + eps))
        losses.append(total / len(order))
        if losses[-1] < settings.tuned_loss:
            break
    weight.requires_grad_(False)
    weight.grad = None
    return Tuned(matrix(loaded, layer) - start, tuple(losses))


# --- 2.4: sequences ------------------------------------------------------------------------------


@dataclass(frozen=True)
class EditedSequence:
    """A model after all steps of an editor; dictionaries by layer."""

    edited: LoadedModel  # a copy; with W0 + D' where the editor restrains the sum
    weights: tuple[Mapping[int, Tensor], ...]  # (D, K): after each step, unrestrained
    past: Mapping[int, Tensor]  # (K, K): S
    steps: tuple[Any, ...]  # of each: JointStep, Tuned, or a list of reference.Edit


def sequence(
    loaded: LoadedModel,
    steps: Sequence[Sequence[Rewrite]],
    editor: JointEditor | GradientEditor | Method,
    settings: Settings,
    moments: Mapping[int, Tensor],
    templates: Sequence[str] = (),
) -> EditedSequence:
    """Edit a copy of the model step by step, each on the weights that the last one left.

    PRUNE restrains the sum of all updates once, after the last step; later steps of a longer
    sequence go on from the unrestrained weights.

    Args:
        loaded: the unedited model.
        steps: the facts of each.
        editor: a row of the catalog, a rank-one method's among them: it edits fact by fact.
        settings: gradient editors and rank-one methods take the first of its layers.
        moments: C (K, K) by layer.
        templates: context templates, for rank-one methods, whose reference reads texts.
    """
    model = copied(loaded)
    past: Mapping[int, Tensor] = {layer: torch.zeros_like(C) for layer, C in moments.items()}
    weights, done = [], []
    for rewrites in steps:
        step: Any
        if isinstance(editor, JointEditor):
            step = joint_edit(model, rewrites, editor, settings, moments, past)
            past = step.past
        elif isinstance(editor, GradientEditor):
            layer = settings.layers[0]
            W0 = matrix(loaded, layer)
            step = fine_tune(model, rewrites, layer, settings, editor, W0)
        else:
            step = [
                rank_one_edit(model, rewrite, editor, settings, moments, templates)
                for rewrite in rewrites
            ]
        done.append(step)
        weights.append({layer: matrix(model, layer).clone() for layer in settings.layers})
    if isinstance(editor, JointEditor) and editor.restraint != "none":
        for layer in settings.layers:
            W, W0 = matrix(model, layer), matrix(loaded, layer)
            W.copy_(W0 + pruned(W - W0, W0, editor.restraint))
    return EditedSequence(model, tuple(weights), past, tuple(done))


def rank_one_edit(
    loaded: LoadedModel,
    rewrite: Rewrite,
    method: Method,
    settings: Settings,
    moments: Mapping[int, Tensor],
    templates: Sequence[str],
) -> reference.Edit:
    """Write one fact into the model by ``tests.support.reference``."""
    layer, start = settings.layers[0], loaded.encoder.start_ids
    edit = reference.edit(
        reference.Setup(
            loaded.model,
            loaded.encoder.tokenizer,
            loaded.down_projection(layer),
            start[0] if start else None,
        ),
        templates,
        rewrite.request.prompt,
        rewrite.request.subject,
        rewrite.request.target_new,
        moments[layer],
        reference.Settings(
            settings.steps,
            settings.learning_rate,
            settings.weight_decay,
            settings.kl_factor,
            settings.clamp_factor,
            settings.stop_loss,
        ),
    )
    matrix(loaded, layer).add_(edit.matrices["c_rome" if method.name == "r_rome" else method.name])
    return edit
