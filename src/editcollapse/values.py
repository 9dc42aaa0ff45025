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
from torch.nn import functional as F

from editcollapse.live import LiveRows
from editcollapse.models import widened
from editcollapse.presets import ValueSettings
from editcollapse.rewrites import Rewrite, RowLayout
from editcollapse.sites import EditSite, SiteStates
from editcollapse.tokens import pad_right


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
class TargetValues:
    """Keys and values of B edits; float32 (float64 for a float64 model), on the model's device."""

    prompt_keys: Tensor
    """(B, P, K): key at the subject's last token in every context, the bare prompt first."""
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
    def bare_key(self) -> Tensor:
        """k0, (B, K)."""
        return self.prompt_keys[:, 0]

    @property
    def prefixed_key(self) -> Tensor:
        """kbar, (B, K): mean over all contexts, the bare one included."""
        return self.prompt_keys.mean(dim=1)

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
    ids = pad_right([row for rewrite in rewrites for row in rewrite.rows], device)
    states = site.read(ids)
    keys, values = _at_subject(states, layout)
    problem = _Problem(site, states, layout, settings, values[:, 0].norm(dim=1))
    dtype = values.dtype
    deltas = [
        torch.zeros(values.shape[-1], dtype=dtype, device=device, requires_grad=True)
        for _ in rewrites
    ]
    adam = torch.optim.Adam(deltas, lr=settings.learning_rate)
    limit = settings.clamp_factor * problem.value_norm
    active = list(range(len(rewrites)))
    n_steps = torch.zeros(len(rewrites), dtype=torch.int64)
    clamp_hit = torch.zeros(len(rewrites), dtype=torch.bool)
    final = LossTerms(*(torch.zeros(len(rewrites), dtype=torch.float64) for _ in range(4)))
    for step in range(settings.steps):
        adam.zero_grad(set_to_none=True)
        last_pass = step == settings.steps - 1
        terms, total = problem.loss(torch.stack([deltas[b] for b in active]), active)
        _store(final, terms, active)
        going = [
            b for b, loss in zip(active, terms.total, strict=True) if not loss < settings.stop_loss
        ]
        if on_step is not None:
            on_step(step + 1, settings.steps)
        if last_pass or not going:
            break
        total.sum().backward()  # type: ignore[no-untyped-call]
        for b in set(active) - set(going):
            deltas[b].grad = None  # Adam passes over what has no gradient: the edit has stopped.
        adam.step()
        for b in going:
            n_steps[b] += 1
            clamp_hit[b] |= _clamp_(deltas[b], limit[b])
        active = going
    return TargetValues(
        prompt_keys=keys,
        prompt_values=values,
        delta=torch.stack([delta.detach() for delta in deltas]),
        loss=final,
        n_steps=n_steps,
        clamp_hit=clamp_hit,
    )


class _Problem:
    """The loss of a batch of edits as a function of their deltas."""

    def __init__(
        self,
        site: EditSite,
        states: SiteStates,
        layout: RowLayout,
        settings: ValueSettings,
        value_norm: Tensor,
    ) -> None:
        self.site = site
        self.layout = layout
        self.settings = settings
        self.value_norm = value_norm
        self.kl_before: Tensor | None = None
        self.live = LiveRows(site, states, layout.subject_last.flatten())
        self._chosen: tuple[list[int], LiveRows] = (list(range(layout.n_edits)), self.live)

    def loss(self, delta: Tensor, active: Sequence[int]) -> tuple[LossTerms, Tensor]:
        """Return the terms, and the differentiable total (A,), of the active edits.

        Args:
            delta: (A, D) of the active edits.
            active: their places in the batch.
        """
        layout = self.layout
        edits = torch.tensor(active, device=delta.device)
        per_edit = layout.n_prompts + 1
        rows = (edits[:, None] * per_edit + torch.arange(per_edit, device=delta.device)).flatten()
        if self._chosen[0] != list(active):
            self._chosen = (list(active), self.live.rows(rows))
        live = self._chosen[1]
        states = live.states
        change = torch.zeros(states.value.shape, dtype=delta.dtype, device=delta.device)
        change[:, 0] = delta.repeat_interleave(per_edit, dim=0)  # the subject's last token is first
        hidden = live.continue_from(self.site.add_to_value(states, change))

        # Logits only where the loss reads them: the target's positions and each KL row's subject.
        place = torch.full((layout.n_edits,), -1, dtype=torch.int64, device=delta.device)
        place[edits] = torch.arange(len(active), device=delta.device)
        owner = place[layout.loss_row // per_edit]
        kept = owner >= 0
        owner = owner[kept]
        row = owner * per_edit + layout.loss_row[kept] % per_edit
        left = layout.subject_last[edits].flatten()  # (A·(P+1),) tokens left of the live ones
        log_probs = self._log_probs(hidden[row, layout.loss_position[kept] - left[row]])
        token_nll = -log_probs.gather(1, layout.loss_label[kept, None])[:, 0]
        weighted = token_nll * layout.loss_weight[kept].to(token_nll.dtype)
        prompt_nll = weighted.new_zeros(len(rows)).index_add(0, row, weighted)
        prompt_nll = prompt_nll.view(-1, per_edit)[:, : layout.n_prompts]  # (A, P)
        nll = prompt_nll.mean(dim=1)

        now = self._log_probs(hidden.view(len(active), per_edit, *hidden.shape[1:])[:, -1, 0])
        if self.kl_before is None:
            self.kl_before = now.detach().clone()
        before = self.kl_before[edits]
        kl = F.kl_div(before, now, log_target=True, reduction="none").sum(dim=1)
        kl = self.settings.kl_factor * kl
        decay = self.settings.weight_decay * delta.norm(dim=1) / self.value_norm[edits] ** 2
        terms = LossTerms(
            nll=nll.detach().double().cpu(),
            kl=kl.detach().double().cpu(),
            weight_decay=decay.detach().double().cpu(),
            target_probability=prompt_nll.detach().neg().exp().mean(dim=1).double().cpu(),
        )
        return terms, nll + kl + decay

    def _log_probs(self, hidden: Tensor) -> Tensor:
        """Return log-probabilities, (M, V), float32 or better."""
        logits = self.site.loaded.logits(hidden)
        return torch.log_softmax(widened(logits), dim=-1)


def _at_subject(states: SiteStates, layout: RowLayout) -> tuple[Tensor, Tensor]:
    """Return keys (B, P, K) and values (B, P, D) at the subject's last token, without KL rows."""
    every = torch.arange(len(states.ids), device=states.ids.device)
    where = layout.subject_last.flatten()
    wide = torch.float64 if states.key.dtype == torch.float64 else torch.float32
    shape = (layout.n_edits, layout.n_prompts + 1, -1)
    keys = states.key[every, where].to(wide).view(shape)[:, : layout.n_prompts]
    values = states.value[every, where].to(wide).view(shape)[:, : layout.n_prompts]
    return keys, values


@torch.no_grad()
def _clamp_(delta: Tensor, limit: Tensor) -> bool:
    """Cut a delta (D,) in place to a norm; return whether it was longer."""
    norm = delta.norm()
    if not bool(norm > limit):
        return False
    delta.mul_(limit / norm)
    return True


def _store(final: LossTerms, terms: LossTerms, active: Sequence[int]) -> None:
    """Keep the terms of the active edits."""
    for field in dataclasses.fields(LossTerms):
        getattr(final, field.name)[list(active)] = getattr(terms, field.name)
