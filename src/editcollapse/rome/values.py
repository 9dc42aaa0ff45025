"""The target value v*: the published optimisation for a batch of independent edits.

Source: ROME (arXiv 2202.05262) sec. 3 and kmeng01/rome compute_v, followed exactly:
    loss = mean over prompts of -(sum of target log-probs) / len(target)
         + kl_factor · KL(now ‖ before) at the subject's last token of "{subject} is a"
         + weight_decay · ‖delta‖ / ‖v0‖²
Adam; stop below ``stop_loss`` or at the last pass before stepping; after each step ‖delta‖ is cut
to ``clamp_factor`` · ‖v0‖. Only suffix tokens run in each pass (``suffix``). Edits are independent:
each has its own delta, stop and clamp, and an edit that has stopped leaves the batch.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from editcollapse.catalog.presets import ValueSettings
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import PromptKeys
from editcollapse.forward.rewrites import Rewrite
from editcollapse.forward.suffix import split_rewrites
from editcollapse.models.loading import widened
from editcollapse.rome.value_loss import LossTerms, Objective


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
    hooked: HookedLayer,
    rewrites: Sequence[Rewrite],
    settings: ValueSettings,
    on_step: Callable[[int, int], None] | None = None,
    predicted_passes: int | None = None,
) -> TargetValues:
    """Return keys, values and the optimised delta of a batch of independent edits.

    Args:
        hooked: the edited layer; with the block's output as its site, values are block outputs, and
            delta is MEMIT's (arXiv 2210.07229, sec. 4.2).
        rewrites: B edits with the same context templates.
        settings: of the optimisation.
        on_step: called after each pass with passes done and the most there can be.
        predicted_passes: an edit stops also after so many passes, in all, in which each token of
            its target was the likeliest one behind every context but the bare one (ENCORE, arXiv
            2502.01636: MPES).

    Returns:
        B edits in the order given.
    """
    n_prompts = len(rewrites[0].prompts)
    suffix, subject = split_rewrites(hooked, rewrites)
    keys, values = (widened(each[:, :n_prompts]) for each in (subject.key, subject.value))
    watched = predicted_passes is not None
    problem = Objective(suffix, rewrites, settings, values[:, 0].norm(dim=1), watched=watched)
    # Adam is elementwise: one parameter of B rows is B optimisations. A row that has stopped is
    # kept in ``final`` and moves on unread.
    delta = torch.zeros_like(values[:, 0], requires_grad=True)
    adam = torch.optim.Adam([delta], lr=settings.learning_rate)
    limit = settings.clamp_factor * problem.value_norm
    n_edits = len(rewrites)
    final = _Final.of(n_edits, delta)
    active = torch.arange(n_edits)
    n_predicted = torch.zeros(n_edits, dtype=torch.int64)
    for step in range(settings.steps):
        adam.zero_grad(set_to_none=True)
        terms, total = problem.loss(delta, active)
        going = ~(terms.total[active] < settings.stop_loss)
        if predicted_passes is not None:
            n_predicted += problem.predicted.cpu()
            going &= n_predicted[active] < predicted_passes
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
    """Final values of B edits, filled in as they stop."""

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


@torch.no_grad()
def _clamp_(deltas: Tensor, limit: Tensor) -> Tensor:
    """Cut deltas (B, D) in place to norms (B,); return which were longer, bool on the CPU."""
    norm = deltas.norm(dim=1)
    longer: Tensor = norm > limit
    deltas.mul_(torch.where(longer, limit / norm, torch.ones_like(norm))[:, None])
    return longer.cpu()
