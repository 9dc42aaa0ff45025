"""Fine-tuning of one down projection on facts: FT, FT-L, FT-M and LocFT-BF.

What an edit of a layer's W changes starts at that layer, so the blocks up to it run once; each
step runs the blocks above on ``value + dW k`` and takes Adam's step on dW, which is Adam's step on
W. The weights themselves stay as they are.

Sources: kmeng01/memit baselines/ft (FT, FT-L: every target token's log-probability is read at the
last token of the prompt), zjunlp/EasyEdit (FT-M: teacher-forced), LocFT-BF (arXiv 2509.22072:
epochs over all facts in mini-batches).
"""

import dataclasses
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from editcollapse.catalog.editor_presets import GradientSettings
from editcollapse.catalog.editors import GradientEditor
from editcollapse.forward.hooked_layer import HookedLayer, LayerStates
from editcollapse.forward.rewrites import Rewrite
from editcollapse.models.loading import LoadedModel, widened
from editcollapse.models.tokenization import pad_right


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """What fine-tuning on some facts gives."""

    change: Tensor
    """dW, (D, K) float64 on the CPU."""
    loss: float
    """Mean over the last epoch's facts, nats a token."""
    n_passes: int
    """Forwards of a mini-batch."""
    n_steps: int
    """Adam's steps."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Facts:
    """n facts in tokens, run up to the edited layer."""

    states: LayerStates
    row: Tensor
    """int64 (M,): each label's fact."""
    position: Tensor
    """int64 (M,): where its logits are read."""
    label: Tensor
    """int64 (M,)."""
    weight: Tensor
    """float (M,): one over the number of the fact's labels."""


def fine_tune(
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    editor: GradientEditor,
    settings: GradientSettings,
    so_far: Tensor | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> FineTuned:
    """Return the change of one layer's W that fine-tuning on n facts makes, beside what is there.

    Args:
        loaded: the model, as edited so far.
        rewrites: n facts; their bare prompts are learnt.
        editor: objective, bound and order.
        settings: on this model.
        so_far: what W has changed already, (D, K) float64; the bound is on the whole change.
        on_step: called with epochs done and the most there can be.
    """
    (layer,) = settings.layers
    hooked = HookedLayer(loaded, layer)
    facts = _read(hooked, rewrites, editor)
    weight = loaded.weight(layer)
    change = torch.zeros_like(widened(weight.detach()), requires_grad=True)
    adam = torch.optim.Adam([change], lr=settings.learning_rate)
    bounds = _bounds(settings.norm_bound, so_far, change)
    order = list(range(len(rewrites)))
    shuffles = random.Random(settings.seed)
    n_passes = n_steps = 0
    mean = float("nan")
    for epoch in range(settings.epochs):
        if editor.shuffled:
            order = list(range(len(rewrites)))
            shuffles.shuffle(order)
        total = 0.0
        for first in range(0, len(order), settings.batch_size):
            some = order[first : first + settings.batch_size]
            adam.zero_grad(set_to_none=True)
            loss = _loss(hooked, facts, change, some)
            n_passes += 1
            value = float(loss.detach())
            total += value * len(some)
            if not value < settings.stop_loss:
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
                n_steps += 1
            if bounds is not None:
                with torch.no_grad():
                    change.clamp_(*bounds)
        mean = total / len(order)
        if on_step is not None:
            on_step(epoch + 1, settings.epochs)
        if mean < settings.stop_loss:
            break
    return FineTuned(change.detach().cpu().double(), mean, n_passes, n_steps)


def _read(hooked: HookedLayer, rewrites: Sequence[Rewrite], editor: GradientEditor) -> _Facts:
    """Return the facts in tokens, run up to the edited layer."""
    device = hooked.loaded.device
    forced = editor.objective == "teacher forced"
    rows, row, position, label, weight = [], [], [], [], []
    for n, rewrite in enumerate(rewrites):
        prompt, target = rewrite.prompts[0].ids, rewrite.target
        rows.append(prompt + target[:-1] if forced else prompt)
        for offset, token in enumerate(target):
            row.append(n)
            position.append(len(prompt) - 1 + (offset if forced else 0))
            label.append(token)
            weight.append(1.0 / len(target))
    states = hooked.read(pad_right(rows, device))
    return _Facts(
        states,
        torch.tensor(row, device=device),
        torch.tensor(position, device=device),
        torch.tensor(label, device=device),
        torch.tensor(weight, dtype=torch.float64, device=device),
    )


def _loss(hooked: HookedLayer, facts: _Facts, change: Tensor, some: Sequence[int]) -> Tensor:
    """Return the mean over a mini-batch's facts of the mean NLL of their labels, nats."""
    index = torch.tensor(some, device=change.device)
    states = facts.states.rows(index)
    moved = widened(states.key) @ change.T
    residual = hooked.add_to_value(states.residual, states.value, moved)
    hidden = hooked.continue_from(residual)
    place = torch.full((len(facts.states.key),), -1, device=change.device)
    place[index] = torch.arange(len(some), device=change.device)
    mine = place[facts.row] >= 0
    logits = widened(hooked.loaded.logits(hidden[place[facts.row[mine]], facts.position[mine]]))
    nll = -torch.log_softmax(logits, dim=-1).gather(1, facts.label[mine][:, None])[:, 0]
    return (nll * facts.weight[mine].to(nll)).sum() / len(some)


def _bounds(
    bound: float | None, so_far: Tensor | None, change: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Return how low and high dW may go so that no entry of W is too far from the unedited one."""
    if bound is None:
        return None
    done = torch.zeros_like(change) if so_far is None else so_far.to(change)
    return -bound - done.detach(), bound - done.detach()
