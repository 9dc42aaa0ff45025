"""The published procedure, one edit at a time, as plainly as it can be written.

This is the oracle of the float64 tests: full forwards, full logits, rows that are never padded or
batched, weights that are really changed and restored. Nothing here is imported from
``editcollapse``; the formulas are those of ROME (arXiv 2202.05262) as its code runs them, and of
C-ROME (arXiv 2406.11263), p-ROME and the "v-relative" variant.

Letters: J contexts, T tokens, D width of the residual stream, K width of the MLP, V vocabulary.
Norms and losses in natural units (nats); everything in the dtype of the model.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

#: name -> (key that solves, key that divides, numerator)
METHODS = {
    "rome": ("kbar", "k0", "delta"),
    "c_rome": ("kbar", "kbar", "to_mean"),
    "p_rome": ("k0", "k0", "delta"),
    "v_relative": ("kbar", "kbar", "delta"),
}


@dataclass(frozen=True)
class Settings:
    """How the target value is optimised (names and defaults of the published files)."""

    steps: int = 20
    lr: float = 0.5
    weight_decay: float = 0.5
    kl_factor: float = 0.0625
    clamp: float = 4.0
    stop_below: float = 0.05


@dataclass(frozen=True)
class Setup:
    """A model in eval mode, its tokenizer, and the down-projection that is rewritten."""

    model: Any
    tokenizer: Any
    module: Any  # Conv1D, weight (K, D), or Linear, weight (D, K)
    bos: int | None = None

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text, after ``bos`` where there is one."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ([] if self.bos is None else [self.bos]) + list(ids)


@dataclass(frozen=True)
class Edit:
    """Everything one edit is made of; ``matrices`` are float (D, K), to be added to W."""

    k0: Tensor
    kbar: Tensor
    v0: Tensor
    vbar: Tensor
    delta: Tensor
    losses: tuple[float, ...]
    matrices: dict[str, Tensor]
    denominators: dict[str, float]


def target_ids(setup: Setup, target: str) -> list[int]:
    """Return the ids of the target with one leading space, never decoded again."""
    text = target if target.startswith(" ") else " " + target
    ids = list(setup.tokenizer(text, add_special_tokens=False)["input_ids"])
    pieces = setup.tokenizer.convert_ids_to_tokens(ids)
    lone = len(pieces) > 1 and pieces[0] == "▁" and pieces[1].startswith("▁")
    return ids[1:] if lone else ids  # SentencePiece: drop the lone underline piece


def locate(setup: Setup, context: str, prompt: str, subject: str) -> tuple[list[int], int]:
    """Return the ids of the filled context and the index of the subject's last token."""
    text = context.replace("{}", prompt.replace("{}", subject, 1), 1)
    last = context.index("{}") + prompt.index("{}") + len(subject) - 1  # its last character
    coded = setup.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = coded["offset_mapping"]
    index = next(i for i, (start, end) in enumerate(spans) if start <= last < end)
    extra = [] if setup.bos is None else [setup.bos]
    return extra + list(coded["input_ids"]), index + len(extra)


def log_probs(setup: Setup, ids: Sequence[int]) -> Tensor:
    """Return (T, V) log-probabilities of one row."""
    logits = setup.model(input_ids=torch.tensor([list(ids)])).logits[0]
    return torch.log_softmax(logits, dim=-1)


def read_key_value(setup: Setup, ids: Sequence[int], index: int) -> tuple[Tensor, Tensor]:
    """Return the module's input (K,) and output (D,) at one token of one row."""
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_module: object, args: tuple[Tensor, ...], out: Tensor) -> None:
        # Copied at once: what comes after may add to the output in place.
        seen.append((_tokens(args[0])[index].clone(), _tokens(out)[index].clone()))

    hook = setup.module.register_forward_hook(keep)
    with hook, torch.no_grad():  # a RemovableHandle removes itself on leaving
        setup.model(input_ids=torch.tensor([list(ids)]))
    return seen[0]


def _tokens(states: Tensor) -> Tensor:
    """Return the tokens of the one row, (T, ...), with or without an axis of rows before them."""
    return states.reshape(-1, states.shape[-1])


@contextlib.contextmanager
def added(setup: Setup, index: int, delta: Tensor) -> Iterator[None]:
    """Add ``delta`` (D,) to the module's output at one token."""

    def add(_module: object, _args: object, out: Tensor) -> Tensor:
        mask = torch.zeros(_tokens(out).shape[0], dtype=out.dtype)
        mask[index] = 1.0
        return out + (mask[:, None] * delta).view_as(out)

    with setup.module.register_forward_hook(add):
        yield


def optimise_delta(
    setup: Setup,
    rows: Sequence[tuple[list[int], int]],
    kl_row: tuple[list[int], int],
    target: Sequence[int],
    v0: Tensor,
    settings: Settings,
) -> tuple[Tensor, tuple[float, ...]]:
    """Return delta (D,) and the loss before each step.

    Every row is its own forward. The KL is KL(now || before), which is what the published call
    ``kl_div(before, now, log_target=True)`` computes, at the subject's last token.
    """
    delta = torch.zeros_like(v0, requires_grad=True)
    optimiser = torch.optim.Adam([delta], lr=settings.lr)
    with torch.no_grad():
        before = log_probs(setup, kl_row[0])[kl_row[1]]
    losses: list[float] = []
    for step in range(settings.steps):
        nll = torch.zeros((), dtype=v0.dtype)
        for ids, index in rows:
            with added(setup, index, delta):
                scores = log_probs(setup, [*ids, *target[:-1]])
            picked = [scores[len(ids) - 1 + j, token] for j, token in enumerate(target)]
            nll = nll - torch.stack(picked).mean() / len(rows)
        with added(setup, kl_row[1], delta):
            now = log_probs(setup, kl_row[0])[kl_row[1]]
        kl = settings.kl_factor * (now.exp() * (now - before)).sum()
        decay = settings.weight_decay * torch.norm(delta) / torch.norm(v0) ** 2
        loss = nll + kl + decay
        losses.append(loss.item())
        if losses[-1] < settings.stop_below or step == settings.steps - 1:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            limit = settings.clamp * torch.norm(v0)
            if torch.norm(delta) > limit:
                delta.mul_(limit / torch.norm(delta))
    return delta.detach(), tuple(losses)


def edit(
    setup: Setup,
    contexts: Sequence[str],
    prompt: str,
    subject: str,
    target: str,
    moment: Tensor | None,
    settings: Settings = Settings(),
) -> Edit:
    """Return one edit by every method; ``contexts[0]`` is "{}", ``moment`` (K, K) or C = I."""
    rows = [locate(setup, context, prompt, subject) for context in contexts]
    pairs = [read_key_value(setup, ids, index) for ids, index in rows]
    k0, v0 = pairs[0]
    kbar = torch.stack([key for key, _ in pairs]).mean(0)
    vbar = torch.stack([value for _, value in pairs]).mean(0)
    kl_row = locate(setup, "{}", "{} is a", subject)
    delta, losses = optimise_delta(setup, rows, kl_row, target_ids(setup, target), v0, settings)
    keys = {"k0": k0, "kbar": kbar}
    numerators = {"delta": delta, "to_mean": v0 + delta - vbar}
    matrices, denominators = {}, {}
    for name, (solve, divide, numerator) in METHODS.items():
        u = keys[solve] if moment is None else torch.linalg.solve(moment, keys[solve])
        u = u / torch.norm(u)
        denominators[name] = float(keys[divide] @ u)
        matrices[name] = torch.outer(numerators[numerator], u) / denominators[name]
    return Edit(k0, kbar, v0, vbar, delta, losses, matrices, denominators)


@contextlib.contextmanager
def edited(setup: Setup, matrix: Tensor) -> Iterator[None]:
    """Change the weights in place by ``matrix`` (D, K); restore them bit for bit."""
    weight = setup.module.weight
    saved = weight.detach().clone()
    change = matrix if isinstance(setup.module, torch.nn.Linear) else matrix.T  # Conv1D: (K, D)
    try:
        with torch.no_grad():
            weight.add_(change)
        yield
    finally:
        with torch.no_grad():
            weight.copy_(saved)


@torch.no_grad()
def perplexity(setup: Setup, texts: Sequence[str]) -> float:
    """Return the mean over texts of exp(mean NLL), no start token, the first token unscored."""
    values = []
    for text in texts:
        ids = list(setup.tokenizer(text, add_special_tokens=False)["input_ids"])
        scores = log_probs(setup, ids)[:-1]
        values.append(math.exp(F.nll_loss(scores, torch.tensor(ids[1:])).item()))
    return sum(values) / len(values)


@torch.no_grad()
def token_accuracy(setup: Setup, text: str, target: str) -> float:
    """Return the share of target tokens that are the argmax after ``text``, teacher-forced."""
    ids, goal = setup.ids(text), target_ids(setup, target)
    best = log_probs(setup, [*ids, *goal[:-1]])[len(ids) - 1 :].argmax(-1)
    return float((best == torch.tensor(goal)).double().mean())


@torch.no_grad()
def second_moment(setup: Setup, texts: Sequence[str], max_tokens: int) -> Tensor:
    """Return the uncentred E[k kT] (K, K) over every token of texts cut at ``max_tokens``."""
    keys: list[Tensor] = []
    with setup.module.register_forward_hook(lambda _m, args, _out: keys.append(_tokens(args[0]))):
        for text in texts:
            setup.model(input_ids=torch.tensor([setup.ids(text)[:max_tokens]]))
    stacked = torch.cat(keys)
    return stacked.T @ stacked / len(stacked)
