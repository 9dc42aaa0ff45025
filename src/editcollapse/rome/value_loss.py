"""The loss of v* as a function of the deltas of a batch of edits, pass by pass.

Its two terms that read logits have their gradient written out. Both start from one matrix of
logits, which autograd would keep and pass through once for every step between it and the loss;
here its softmax is the only thing kept, and becomes the gradient in place.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from editcollapse.catalog.presets import ValueSettings
from editcollapse.forward.packed_layout import Segment
from editcollapse.forward.rewrites import Rewrite
from editcollapse.forward.suffix import SuffixTokens
from editcollapse.models.loading import widened


def token_losses(
    logits: Tensor, labels: Tensor, before: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return NLL (M,) and KL(now ‖ before) (A,), in nats, and the log-probabilities (A, V).

    Differentiable in ``logits``, which are used up.

    Args:
        logits: (M + A, V), float32 or better: M rows with a label, then A KL rows.
        labels: int64 (M,).
        before: (A, V) log-probabilities that the KL compares with; None for these very ones.
    """
    found: tuple[Tensor, Tensor, Tensor] = _TokenLosses.apply(  # type: ignore[no-untyped-call]
        logits, labels, before
    )
    return found


class _TokenLosses(torch.autograd.Function):
    """NLL of labels, and KL(now ‖ before) of the rows after them."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, before: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute ``token_losses``."""
        # In place: nothing before this reads the logits again, and they are the largest tensor.
        log_probs = logits.detach()
        torch.log_softmax(log_probs, dim=-1, out=log_probs)
        n_labels = len(labels)
        nll = -log_probs[:n_labels].gather(1, labels[:, None])[:, 0]
        now = log_probs[n_labels:].clone()
        ratio = torch.zeros_like(now) if before is None else now - before
        kl = (now.exp() * ratio).sum(dim=1)
        ctx.save_for_backward(labels, ratio, kl)
        ctx.shares = log_probs.exp_()
        ctx.mark_non_differentiable(now)
        return nll, kl, now

    @staticmethod
    def backward(
        ctx: Any, nll_grad: Tensor, kl_grad: Tensor, _: Tensor
    ) -> tuple[Tensor, None, None]:
        """Return the gradient of the logits.

        d NLL / d logits = p - onehot(label); d KL / d logits = p (log p - log before - KL).
        """
        labels, ratio, kl = ctx.saved_tensors
        shares, ctx.shares = ctx.shares, None
        n_labels = len(labels)
        shares[:n_labels] *= nll_grad[:, None]
        shares[:n_labels].scatter_add_(1, labels[:, None], -nll_grad[:, None])
        shares[n_labels:] *= (ratio - kl[:, None]) * kl_grad[:, None]
        return shares, None, None


_WORTH_DROPPING = 0.1
"""Share of the running edits that has to have stopped before they are dropped: choosing the others
anew costs about a tenth of a pass."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LossTerms:
    """The terms of the loss, each (B,) float64 on the CPU."""

    nll: Tensor
    kl: Tensor
    weight_decay: Tensor
    target_probability: Tensor
    """Mean over prompts of the geometric-mean probability of the target's tokens."""

    @property
    def total(self) -> Tensor:
        """The loss."""
        return self.nll + self.kl + self.weight_decay


class Objective:
    """The loss of a batch of edits as a function of their deltas.

    Args:
        suffix: the suffix tokens of the batch.
        rewrites: B edits.
        settings: of the optimisation.
        value_norm: of each edit's bare value, (B,).
        watched: find out in each pass which targets are ``predicted``.
    """

    def __init__(
        self,
        suffix: SuffixTokens,
        rewrites: Sequence[Rewrite],
        settings: ValueSettings,
        value_norm: Tensor,
        *,
        watched: bool = False,
    ) -> None:
        self.suffix = suffix
        self.settings = settings
        self.value_norm = value_norm
        self._n_prompts = len(rewrites[0].prompts)
        self._targets = [rewrite.target for rewrite in rewrites]
        self._kl_before: Tensor | None = None
        self._running = torch.ones(len(rewrites), dtype=torch.bool)
        self._read = _Read.of(suffix.segments, self._targets)
        self._watched = watched
        self.predicted = torch.zeros(len(rewrites), dtype=torch.int64, device=value_norm.device)
        """int64 (B,): 1 where in the last pass each token of the target was the likeliest one
        behind every context but the bare one; edits that have left the batch have 0."""

    def loss(self, delta: Tensor, active: Tensor) -> tuple[LossTerms, Tensor]:
        """Return the terms, and the differentiable total (B,); those of stopped edits mean nothing.

        Args:
            delta: (B, D).
            active: int64 (A,) on the CPU: indices of the active edits.
        """
        self._let_go(active)
        terms, total = self.terms(delta)
        # One copy to the CPU: an accelerator waits once a pass.
        return LossTerms(*terms.cpu().double()), total

    def terms(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the terms of ``loss`` on the model's device; nothing waits for an accelerator.

        Args:
            delta: (B, D).

        Returns:
            The terms in the order of ``LossTerms``, (4, B), and the differentiable total (B,).
        """
        read, n_edits = self._read, len(delta)
        states = self.suffix.states(delta)
        # One product with the head serves both parts: its weights are read from memory once.
        logits = widened(self.suffix.hooked.loaded.logits(states))
        if self._watched:
            self._watch(logits[: len(read.labels)])
        before = None if self._kl_before is None else self._kl_before[read.kl_edits]
        token_nll, kl, now = token_losses(logits, read.labels, before)
        if self._kl_before is None:
            self._kl_before = now.new_empty((n_edits, now.shape[1]))
            self._kl_before[read.kl_edits] = now
        prompt_nll = token_nll.new_zeros(len(read.owner))
        prompt_nll = prompt_nll.index_add(0, read.row, token_nll * read.weight.to(token_nll))
        zeros = token_nll.new_zeros(n_edits)
        nll = zeros.index_add(0, read.owner, prompt_nll) / self._n_prompts
        kl = self.settings.kl_factor * zeros.index_add(0, read.kl_edits, kl)
        decay = self.settings.weight_decay * delta.norm(dim=1) / self.value_norm**2
        shares = prompt_nll.detach().neg().exp()
        probability = zeros.index_add(0, read.owner, shares) / self._n_prompts
        return torch.stack([nll, kl, decay, probability]).detach(), nll + kl + decay

    @torch.no_grad()
    def _watch(self, logits: Tensor) -> None:
        """Keep which targets are predicted by the logits of the labels, (M, V)."""
        read = self._read
        label_edits = read.owner[read.row]
        counts = read.is_prefixed[read.row]
        missed = (counts & (logits.argmax(dim=1) != read.labels)).to(torch.int64)
        n_missed = torch.zeros_like(self.predicted).index_add(0, label_edits, missed)
        n_asked = torch.zeros_like(self.predicted).index_add(0, label_edits, counts.to(missed))
        self.predicted = ((n_missed == 0) & (n_asked > 0)).to(torch.int64)

    def _let_go(self, active: Tensor) -> None:
        """Drop the rows of stopped edits, once they are a share that is worth it."""
        n_running = int(self._running.sum())
        if len(active) > n_running * (1 - _WORTH_DROPPING):
            return
        self._running = torch.zeros_like(self._running)
        self._running[active] = True
        self.suffix = self.suffix.some(self._running.to(self.value_norm.device))
        self._read = _Read.of(self.suffix.segments, self._targets)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """Layout of the states that are read: M labels of R prompts' rows, then A KL rows."""

    labels: Tensor
    """int64 (M,)."""
    row: Tensor
    """int64 (M,): the prompt's row that each label belongs to."""
    weight: Tensor
    """float64 (M,): one over the number of the target's tokens."""
    owner: Tensor
    """int64 (R,): each row's edit."""
    is_prefixed: Tensor
    """bool (R,): whether each row's context is another than the bare one."""
    kl_edits: Tensor
    """int64 (A,)."""

    @classmethod
    def of(cls, segments: Sequence[Segment], targets: Sequence[tuple[int, ...]]) -> "_Read":
        labels: list[int] = []
        row: list[int] = []
        weight: list[float] = []
        owner: list[int] = []
        is_prefixed: list[bool] = []
        kl_edits: list[int] = []
        for segment in segments:
            edits = segment.edits.tolist()
            if segment.is_kl:
                kl_edits += edits
                continue
            for slot in segment.slots:
                for edit in edits:
                    labels += targets[edit]
                    row += [len(owner)] * segment.n_reads
                    weight += [1.0 / segment.n_reads] * segment.n_reads
                    owner.append(edit)
                    is_prefixed.append(slot > 0)
        device = segments[0].edits.device
        return cls(
            labels=torch.tensor(labels, device=device),
            row=torch.tensor(row, device=device),
            weight=torch.tensor(weight, dtype=torch.float64, device=device),
            owner=torch.tensor(owner, device=device),
            is_prefixed=torch.tensor(is_prefixed, device=device),
            kl_edits=torch.tensor(kl_edits, device=device),
        )
