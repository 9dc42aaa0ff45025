"""The published procedure, written plainly after its public code: one edit at a time.

This is what ours is timed against, so it does what the public code does, in its order and with its
batches, and wastes nothing on purpose: no gradients for weights, no gradients where the public code
takes none, C inverted once beforehand, the same kernels of the same torch and transformers.

Sources: kmeng01/rome (rome_main, compute_u, compute_v, repr_tools); Collapse-in-Model-Editing
(compute_v with ``if_c_rome``) for C-ROME; rebuilding-rome and zkl-knowedit-rome for p-ROME and
"v-relative". Rows are built once by ``forward.rewrites`` so that both sides edit the very same
tokens. Perplexity and C are in ``reference_measures``.

Letters: P contexts, T tokens, D width of the residual stream, K width of the MLP, V vocabulary.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.published import Published, padded, wide
from editcollapse.catalog.presets import ValueSettings
from editcollapse.forward.rewrites import Rewrite
from editcollapse.models.tokenization import SubjectSequence

Key = Literal["bare", "prefixed"]


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """Keys that one method solves with and divides by, and the value that it writes."""

    solve_with: Key
    divide_with: Key
    to_mean: bool
    """Whether the mean value of the contexts is subtracted, as C-ROME does, or the bare one."""


RULES = {
    "rome": Rule("prefixed", "bare", to_mean=False),
    "c_rome": Rule("prefixed", "prefixed", to_mean=True),
    "p_rome": Rule("bare", "bare", to_mean=False),
    "v_relative": Rule("prefixed", "prefixed", to_mean=False),
}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Update:
    """One rank-one update W' = W + left rightᵀ, float32 or better."""

    left: Tensor
    """(D,)."""
    right: Tensor
    """(K,), of unit length."""
    n_passes: int = 0
    """Passes of the optimisation."""


def edit(
    published: Published,
    request: Rewrite,
    method: str,
    inverse: Tensor | None,
    settings: ValueSettings,
) -> Update:
    """Return the update of one edit by one method, everything computed for it alone.

    Args:
        published: the model and the layer that is rewritten.
        request: the edit in tokens.
        method: a name in ``RULES``.
        inverse: C⁻¹, (K, K) float32 or better on the model's device; None for the identity.
        settings: of the optimisation.

    Source: rome_main.execute_rome: compute_u, then compute_v, which reads keys and values again.
    """
    rule = RULES[method]
    right = _direction(published, request, rule.solve_with, inverse)
    delta, target_init, n_passes = optimise(published, request, settings)
    contexts = request.prompts if rule.divide_with == "prefixed" else request.prompts[:1]
    keys, values = read(published, contexts)
    key, value = keys.mean(dim=0), values.mean(dim=0)
    residual = target_init + delta - value if rule.to_mean else delta
    return Update(residual / (key @ right.to(key.dtype)), right, n_passes)


def denominator(published: Published, request: Rewrite, inverse: Tensor | None) -> Tensor:
    """Return k0 · u of one edit by ROME, a scalar: what its update divides by."""
    right = _direction(published, request, "prefixed", inverse)
    key = read(published, request.prompts[:1])[0][0]
    return torch.dot(key, right.to(key.dtype))


def _direction(
    published: Published, request: Rewrite, solve_with: Key, inverse: Tensor | None
) -> Tensor:
    """Return u, (K,), of unit length. Source: compute_u."""
    contexts = request.prompts if solve_with == "prefixed" else request.prompts[:1]
    solved = read(published, contexts)[0].mean(dim=0)
    if inverse is not None:
        solved = inverse @ solved.to(inverse.dtype)
    unit: Tensor = solved / solved.norm()
    return unit


@torch.no_grad()
def read(published: Published, prompts: Sequence[SubjectSequence]) -> tuple[Tensor, Tensor]:
    """Return keys (P, K) and values (P, D) at each prompt's subject, by one whole forward.

    Source: repr_tools.get_module_input_output_at_words.
    """
    ids, mask = padded([prompt.ids for prompt in prompts], published.device)
    seen: list[tuple[Tensor, Tensor]] = []
    hook = published.projection.register_forward_hook(
        lambda _module, inputs, output: seen.append((inputs[0], output))
    )
    with hook:
        published.model(input_ids=ids, attention_mask=mask, use_cache=False)
    rows = torch.arange(len(prompts), device=ids.device)
    where = torch.tensor([prompt.subject_last for prompt in prompts], device=ids.device)
    key, value = seen[0]
    return wide(key[rows, where]), wide(value[rows, where])


def optimise(
    published: Published,
    request: Rewrite,
    settings: ValueSettings,
    site: nn.Module | None = None,
    predicted_passes: int | None = None,
) -> tuple[Tensor, Tensor, int]:
    """Return delta and the bare prompt's value, each (D,), and the passes over P + 1 whole rows.

    Args:
        published: the model.
        request: the edit in tokens.
        settings: of the optimisation.
        site: module whose output delta is added to: a block, as MEMIT does; None for the projection
            that is rewritten, as ROME does.
        predicted_passes: passes with a predicted target after which ENCORE stops; None for never.

    Source: compute_v, and compute_z of kmeng01/memit and of ENCORE. Each pass runs every row
    through the whole model, with the vocabulary's log-probabilities at every position; the last of
    ``steps`` passes takes no step.
    """
    target = request.target
    prompts = [*request.prompts, request.kl_prompt]
    n_prompts = len(request.prompts)
    rows = [prompt.ids + target[:-1] for prompt in request.prompts] + [request.kl_prompt.ids]
    ids, mask = padded(rows, published.device)
    labels = _labels(request, ids)
    scored = labels >= 0
    every = torch.arange(len(rows), device=ids.device)
    where = torch.tensor([prompt.subject_last for prompt in prompts], device=ids.device)
    delta: Tensor | None = None
    target_init: Tensor | None = None
    kl_before: Tensor | None = None
    adam: torch.optim.Adam | None = None
    n_predicted = 0

    def add_delta(_module: nn.Module, _inputs: object, found: Any) -> Any:
        nonlocal delta, target_init, adam
        output: Tensor = found[0] if isinstance(found, tuple) else found
        if target_init is None or delta is None:
            target_init = wide(output[0, where[0]].detach().clone())
            delta = torch.zeros_like(target_init, requires_grad=True)
            adam = torch.optim.Adam([delta], lr=settings.learning_rate)
        edited = output.clone()
        edited[every, where] += delta.to(output.dtype)
        return (edited, *found[1:]) if isinstance(found, tuple) else edited

    with (site or published.projection).register_forward_hook(add_delta):
        for step in range(settings.steps):
            logits = published.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            assert delta is not None
            assert target_init is not None
            assert adam is not None
            log_probs = torch.log_softmax(logits, dim=2)
            picked = log_probs[:n_prompts].gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0]
            nll = -(picked * scored).sum(dim=1) / len(target)
            now = log_probs[n_prompts:, where[-1]]
            if kl_before is None:
                kl_before = now.detach().clone()
            kl = F.kl_div(kl_before, now, log_target=True, reduction="batchmean")
            decay = settings.weight_decay * delta.norm() / target_init.norm() ** 2
            loss = nll.mean() + settings.kl_factor * kl + decay
            if predicted_passes is not None:
                n_predicted += _is_predicted(log_probs, labels)
            is_last = step == settings.steps - 1 or n_predicted == predicted_passes
            if loss.item() < settings.stop_loss or is_last:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
            _clamp_(delta, settings.clamp_factor * target_init.norm())
    assert delta is not None
    assert target_init is not None
    return delta.detach(), target_init, step + 1


@torch.no_grad()
def _clamp_(delta: Tensor, limit: Tensor) -> None:
    """Cut delta in place to a norm."""
    if delta.norm() > limit:
        delta.mul_(limit / delta.norm())


def _labels(request: Rewrite, ids: Tensor) -> Tensor:
    """Return what each position of the prompts' rows is to predict, int64 (P, T); -1 for nothing.

    Args:
        request: the edit in tokens.
        ids: int64 (P + 1, T).
    """
    target = torch.tensor(request.target, device=ids.device)
    labels = torch.full_like(ids[: len(request.prompts)], -1)
    for row, prompt in enumerate(request.prompts):
        first = len(prompt.ids) - 1
        labels[row, first : first + len(target)] = target
    return labels


def _is_predicted(log_probs: Tensor, labels: Tensor) -> bool:
    """Return whether each token of the target is the likeliest behind all contexts but the bare.

    Source: ENCORE's compute_z.
    """
    hit = (log_probs[1 : len(labels)].argmax(dim=2) == labels[1:]) | (labels[1:] < 0)
    return bool(hit.all())


@contextmanager
def edited(published: Published, update: Update) -> Iterator[None]:
    """Write an update into the weights; put the saved weights back at the end.

    Source: rome_main. The public code writes, restores and writes again; once is enough here.
    """
    weight = published.projection.weight
    assert isinstance(weight, Tensor)
    saved = weight.detach().clone()
    change = torch.outer(update.left, update.right.to(update.left.dtype))
    try:
        with torch.no_grad():
            weight += (change.T if published.transposed else change).to(weight.dtype)
        yield
    finally:
        with torch.no_grad():
            weight.copy_(saved)
