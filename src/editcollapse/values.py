"""The target value v*: the published optimisation for a batch of independent edits.

Source: ROME (arXiv 2202.05262) sec. 3 and kmeng01/rome compute_v, followed exactly:
    loss = mean over prompts of -(sum of target log-probs) / len(target)
         + kl_factor · KL(now ‖ before) at the subject's last token of "{subject} is a"
         + weight_decay · ‖delta‖ / ‖v0‖²
Adam; stop below ``stop_loss`` or at the last pass before stepping; after each step ‖delta‖ is cut
to ``clamp_factor`` · ‖v0‖. Only live tokens run in each pass (``live``). Edits are independent:
each has its own delta, stop and clamp, and an edit that has stopped leaves the batch.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from editcollapse.keys import PromptKeys
from editcollapse.live import LiveTokens, split_rewrites
from editcollapse.losses import token_losses
from editcollapse.models import widened
from editcollapse.presets import ValueSettings
from editcollapse.rewrites import Rewrite
from editcollapse.segments import Segment
from editcollapse.sites import EditSite

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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class TargetValues(PromptKeys):
    """Keys and values of B edits; float32 (float64 for a float64 model), on the model's device."""

    prompt_values: Tensor
    """(B, P, D): value there, before the edit."""
    delta: Tensor
    """(B, D): v* less the bare prompt's value."""
    loss: LossTerms
    """At the last pass."""
    n_steps: Tensor
    """int64 (B,): Adam steps taken."""
    clamp_hit: Tensor
    """bool (B,): whether delta was ever cut."""

    @property
    def bare_value(self) -> Tensor:
        """v0, (B, D)."""
        return self.prompt_values[:, 0]

    @property
    def prefixed_value(self) -> Tensor:
        """vbar, (B, D): mean over all contexts."""
        return self.prompt_values.mean(dim=1)


def optimise_values(
    site: EditSite,
    rewrites: Sequence[Rewrite],
    settings: ValueSettings,
    on_step: Callable[[int, int], None] | None = None,
) -> TargetValues:
    """Return keys, values and the optimised delta of a batch of independent edits.

    Args:
        site: the edited layer.
        rewrites: B edits with the same context templates.
        settings: of the optimisation.
        on_step: called after each pass with passes done and the most there can be.

    Returns:
        B edits in the order given.
    """
    n_prompts = len(rewrites[0].prompts)
    live, subject = split_rewrites(site, rewrites)
    keys, values = (widened(each[:, :n_prompts]) for each in (subject.key, subject.value))
    problem = _Problem(live, rewrites, settings, values[:, 0].norm(dim=1))
    # Adam is elementwise: one parameter of B rows is B optimisations. A row that has stopped is
    # kept in ``final`` and moves on unread.
    delta = torch.zeros_like(values[:, 0], requires_grad=True)
    adam = torch.optim.Adam([delta], lr=settings.learning_rate)
    limit = settings.clamp_factor * problem.value_norm
    n_edits = len(rewrites)
    final = _Final.of(n_edits, delta)
    active = torch.arange(n_edits)
    for step in range(settings.steps):
        adam.zero_grad(set_to_none=True)
        terms, total = problem.loss(delta, active)
        going = ~(terms.total[active] < settings.stop_loss)
        stops = active if step == settings.steps - 1 else active[~going]
        final.keep_loss(terms, active)
        final.delta[stops] = delta.detach()[stops]
        if on_step is not None:
            on_step(step + 1, settings.steps)
        if len(stops) == len(active):
            break
        total.sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
        active = active[going]
        final.n_steps[active] += 1
        final.clamp_hit[active] |= _clamp_(delta, limit)[active]
    return TargetValues(
        prompt_keys=keys,
        prompt_values=values,
        delta=final.delta,
        loss=final.loss,
        n_steps=final.n_steps,
        clamp_hit=final.clamp_hit,
    )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Final:
    """What B edits end with, filled in as they stop."""

    delta: Tensor
    loss: LossTerms
    n_steps: Tensor
    clamp_hit: Tensor

    @classmethod
    def of(cls, n_edits: int, delta: Tensor) -> "_Final":
        return cls(
            delta=torch.zeros_like(delta, requires_grad=False),
            loss=LossTerms(*(torch.zeros(n_edits, dtype=torch.float64) for _ in range(4))),
            n_steps=torch.zeros(n_edits, dtype=torch.int64),
            clamp_hit=torch.zeros(n_edits, dtype=torch.bool),
        )

    def keep_loss(self, terms: LossTerms, active: Tensor) -> None:
        """Keep the terms of the active edits."""
        for field in dataclasses.fields(LossTerms):
            getattr(self.loss, field.name)[active] = getattr(terms, field.name)[active]


class _Problem:
    """The loss of a batch of edits as a function of their deltas."""

    def __init__(
        self,
        live: LiveTokens,
        rewrites: Sequence[Rewrite],
        settings: ValueSettings,
        value_norm: Tensor,
    ) -> None:
        self.live = live
        self.settings = settings
        self.value_norm = value_norm
        self._n_prompts = len(rewrites[0].prompts)
        self._targets = [rewrite.target for rewrite in rewrites]
        self._kl_before: Tensor | None = None
        self._running = torch.ones(len(rewrites), dtype=torch.bool)
        self._read = _Read.of(live.segments, self._targets)

    def loss(self, delta: Tensor, active: Tensor) -> tuple[LossTerms, Tensor]:
        """Return the terms, and the differentiable total (B,); those of stopped edits mean nothing.

        Args:
            delta: (B, D).
            active: int64 (A,) on the CPU: places of the active edits.
        """
        self._let_go(active)
        read, n_edits = self._read, len(delta)
        states = self.live.states(delta)
        # One product with the head serves both parts: its weights are read from memory once.
        logits = widened(self.live.site.loaded.logits(states))
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
        # One copy to the CPU: an accelerator waits once a pass.
        terms = torch.stack([nll, kl, decay, probability]).detach().cpu().double()
        return LossTerms(*terms), nll + kl + decay

    def _let_go(self, active: Tensor) -> None:
        """Drop the rows of stopped edits, once they are a share that is worth it."""
        n_running = int(self._running.sum())
        if len(active) > n_running * (1 - _WORTH_DROPPING):
            return
        self._running = torch.zeros_like(self._running)
        self._running[active] = True
        self.live = self.live.some(self._running.to(self.value_norm.device))
        self._read = _Read.of(self.live.segments, self._targets)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """What the states that are read stand for: M labels of R prompts' rows, then A KL rows."""

    labels: Tensor
    """int64 (M,)."""
    row: Tensor
    """int64 (M,): the prompt's row that each label belongs to."""
    weight: Tensor
    """float64 (M,): one over the number of the target's tokens."""
    owner: Tensor
    """int64 (R,): each row's edit."""
    kl_edits: Tensor
    """int64 (A,)."""

    @classmethod
    def of(cls, segments: Sequence[Segment], targets: Sequence[tuple[int, ...]]) -> "_Read":
        labels: list[int] = []
        row: list[int] = []
        weight: list[float] = []
        owner: list[int] = []
        kl_edits: list[int] = []
        for segment in segments:
            edits = segment.edits.tolist()
            if segment.is_kl:
                kl_edits += edits
                continue
            for edit in edits * len(segment.slots):
                labels += targets[edit]
                row += [len(owner)] * segment.n_reads
                weight += [1.0 / segment.n_reads] * segment.n_reads
                owner.append(edit)
        device = segments[0].edits.device
        return cls(
            labels=torch.tensor(labels, device=device),
            row=torch.tensor(row, device=device),
            weight=torch.tensor(weight, dtype=torch.float64, device=device),
            owner=torch.tensor(owner, device=device),
            kl_edits=torch.tensor(kl_edits, device=device),
        )


@torch.no_grad()
def _clamp_(deltas: Tensor, limit: Tensor) -> Tensor:
    """Cut deltas (B, D) in place to norms (B,); return which were longer, bool on the CPU."""
    norm = deltas.norm(dim=1)
    longer: Tensor = norm > limit
    deltas.mul_(torch.where(longer, limit / norm, torch.ones_like(norm))[:, None])
    return longer.cpu()
