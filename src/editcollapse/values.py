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
from editcollapse.live import LiveRows, split_rows
from editcollapse.losses import token_losses
from editcollapse.models import widened
from editcollapse.presets import ValueSettings
from editcollapse.rewrites import Rewrite, RowLayout
from editcollapse.sites import EditSite


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
    device = site.loaded.device
    layout = RowLayout.of(rewrites, device)
    rows = [row for rewrite in rewrites for row in rewrite.rows]
    where = layout.subject_last.flatten().tolist()
    live, subject = split_rows(site, rows, where, layout.n_prompts + 1)
    keys, values = (_of_prompts(states, layout) for states in (subject.key, subject.value))
    problem = _Problem(live, layout, settings, values[:, 0].norm(dim=1))
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
        going = ~(terms.total < settings.stop_loss)
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
            getattr(self.loss, field.name)[active] = getattr(terms, field.name)


class _Problem:
    """The loss of a batch of edits as a function of their deltas."""

    def __init__(
        self,
        live: LiveRows,
        layout: RowLayout,
        settings: ValueSettings,
        value_norm: Tensor,
    ) -> None:
        self.site = live.site
        self.live = live
        self.layout = layout
        self.settings = settings
        self.value_norm = value_norm
        self.kl_before: Tensor | None = None
        self._chosen = (torch.arange(layout.n_edits), live)

    def loss(self, deltas: Tensor, active: Tensor) -> tuple[LossTerms, Tensor]:
        """Return the terms, and the differentiable total (A,), of the active edits.

        Args:
            deltas: (B, D).
            active: int64 (A,) on the CPU: places of the active edits.
        """
        layout = self.layout
        edits = active.to(deltas.device)
        delta = deltas[edits]
        per_edit = layout.n_prompts + 1
        live = self._live_rows(active, edits)
        change = torch.zeros(live.residual.shape, dtype=delta.dtype, device=delta.device)
        change[:, 0] = delta.repeat_interleave(per_edit, dim=0)  # the subject's last token is first
        residual = self.site.add_to_value(live.residual, live.value, change)
        # States only where the loss reads them: before the target's tokens, and at each KL row's
        # subject. One product with the head serves both: its weights are read from memory once.
        states = live.states_at(residual, layout.reads[edits].flatten(0, 1))
        states = states.view(len(edits), per_edit, *states.shape[1:])  # (A, P+1, M, D)
        weight = layout.weights[active].to(delta)  # (A, M)
        counts = (weight > 0)[:, None].expand(-1, layout.n_prompts, -1)
        scored = states[:, :-1][counts]
        labels = layout.labels[edits][:, None].expand(-1, layout.n_prompts, -1)[counts]
        before = None if self.kl_before is None else self.kl_before[edits]
        logits = self.site.loaded.logits(torch.cat([scored, states[:, -1, 0]]))
        token_nll, kl, now = token_losses(widened(logits), labels, before)
        if self.kl_before is None:
            self.kl_before = now
        by_prompt = token_nll.new_zeros(counts.shape).masked_scatter(counts, token_nll)
        prompt_nll = (by_prompt * weight[:, None].to(token_nll)).sum(dim=2)  # (A, P)
        nll = prompt_nll.mean(dim=1)
        kl = self.settings.kl_factor * kl
        decay = self.settings.weight_decay * delta.norm(dim=1) / self.value_norm[edits] ** 2
        probability = prompt_nll.detach().neg().exp().mean(dim=1)
        # One copy to the CPU: an accelerator waits once a pass.
        terms = torch.stack([nll, kl, decay, probability]).detach().cpu().double()
        return LossTerms(*terms), nll + kl + decay

    def _live_rows(self, active: Tensor, edits: Tensor) -> LiveRows:
        """Return the rows of the active edits, chosen anew when one has stopped."""
        if not torch.equal(self._chosen[0], active):
            per_edit = self.layout.n_prompts + 1
            each = torch.arange(per_edit, device=edits.device)
            rows = (edits[:, None] * per_edit + each).flatten()
            self._chosen = (active, self.live.rows(rows))
        return self._chosen[1]


def _of_prompts(states: Tensor, layout: RowLayout) -> Tensor:
    """Return one state a row as (B, P, ...), float32 or better, without the KL rows."""
    shape = (layout.n_edits, layout.n_prompts + 1, states.shape[-1])
    by_edit: Tensor = torch.reshape(widened(states), shape)
    return by_edit[:, : layout.n_prompts]


@torch.no_grad()
def _clamp_(deltas: Tensor, limit: Tensor) -> Tensor:
    """Cut deltas (B, D) in place to norms (B,); return which were longer, bool on the CPU."""
    norm = deltas.norm(dim=1)
    longer: Tensor = norm > limit
    deltas.mul_(torch.where(longer, limit / norm, torch.ones_like(norm))[:, None])
    return longer.cpu()
