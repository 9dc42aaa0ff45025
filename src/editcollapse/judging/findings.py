"""What a check has found, as plain data, and the verdict on it; loads no torch.

A verdict is measured where perplexity was: the collapse rule decides. Without it there is a
forecast, which warns of large single edits of rank one. It calls nothing safe: P(collapse) rests on
edits of ROME's family, and a difference that was made otherwise can do more harm with less change
(docs/check.md).
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

from editcollapse.forecast.probability import Probability
from editcollapse.forecast.verdicts import is_supported
from editcollapse.judging.change_curve import ChangeCurve, change_curve
from editcollapse.rows.collapse_rule import DAMAGE_RATIO, CollapseRule

ONE_DIRECTION = 0.99
"""Share of a difference's squared norm in its first direction from which on it counts as of rank
one: what is left is the rounding of the stored type."""
Foreseen = Literal["at risk", "will collapse", "not known"]
CheckVerdict = Literal["nothing differs", "alive", "collapsed"] | Foreseen
"""``alive`` and ``collapsed`` are measured, ``will collapse`` and ``not known`` are forecasts;
``at risk`` is either: perplexity more than doubled, or a change at which some edits collapsed their
models."""


@dataclasses.dataclass(frozen=True, slots=True)
class TensorChange:
    """One tensor that differs."""

    tensor: str
    layer: int | None
    part: str
    """As ``weights.WeightPlace``."""
    shape: tuple[int, ...]
    """As it is stored."""
    n_entries: int
    n_changed: int
    n_not_finite: int
    max_abs: float
    norm: float
    """Frobenius norm of the difference."""
    weight_norm: float
    relative_norm: float
    spectral_norm: float | None
    effective_rank: float | None
    first_share: float | None
    text_change: float | None
    """sqrt(tr(D C DT) / tr(W C WT)); None where it is not known."""
    n_tokens: int | None
    """Of C; None where there is no text change."""
    tokens_per_input: float | None
    """Of C for each of its dimensions; None likewise."""

    @property
    def has_one_direction(self) -> bool:
        """Whether the difference is of rank one, to the rounding of the stored type."""
        return self.first_share is not None and self.first_share >= ONE_DIRECTION


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredTexts:
    """A model's perplexity on the texts."""

    perplexity: float
    perplexity_median: float
    nll_mean: float


@dataclasses.dataclass(frozen=True, slots=True)
class RequestScores:
    """How the two models answer the probes of one request; fields as ``rows.study.ProbeScores``."""

    request_id: str
    subject: str
    target_new: str
    side: Literal["before", "after"]
    efficacy: float
    generalization: float | None
    locality: float | None
    efficacy_score: float | None
    paraphrase_score: float | None
    neighborhood_score: float | None
    target_new_nll: float


@dataclasses.dataclass(frozen=True, slots=True)
class ChangeForecast:
    """What the difference alone lets expect."""

    verdict: Foreseen
    probability: Probability | None
    """P(collapse) of an edit of ROME's family with this change; None where it is none of rank one
    at one down projection, or its change is not known."""
    why: str
    """A sentence."""


@dataclasses.dataclass(frozen=True, slots=True)
class CheckFindings:
    """All that a check has found."""

    base: str
    """The model's source: nothing of the machine."""
    edited: str
    kind: str
    """model, adapter or delta."""
    n_tensors: int
    """Tensors that were compared; a tied head once."""
    changes: tuple[TensorChange, ...]
    """Those that differ, in the model's order."""
    relative_norm: float
    """Frobenius norm of the whole difference over that of all tensors."""
    settings_changed: tuple[str, ...]
    """Fields of the configuration that differ."""
    notes: tuple[str, ...]
    """What else to know, a sentence each."""
    covariance: str | None
    """What C is of; None where no text change was asked for or found."""
    text_set: str | None
    """Name of the perplexity texts; None where they were not asked for."""
    n_texts: int
    """That both models were measured on."""
    before: MeasuredTexts | None
    after: MeasuredTexts | None
    scores: tuple[RequestScores, ...]
    """Request by request, before and after."""
    forecast: ChangeForecast

    @property
    def differs(self) -> bool:
        """Whether anything does."""
        return bool(self.changes or self.settings_changed)

    @property
    def n_not_finite(self) -> int:
        """Weights that are NaN or infinite now."""
        return sum(each.n_not_finite for each in self.changes)

    @property
    def largest(self) -> TensorChange | None:
        """The linear weight that changes its layer most on text; None where none is known."""
        known = [each for each in self.changes if each.text_change is not None]
        return max(known, key=lambda each: each.text_change or 0.0, default=None)

    @property
    def n_unknown(self) -> int:
        """Tensors that differ and have no text change."""
        return sum(each.text_change is None for each in self.changes)

    def verdict(self, rule: CollapseRule) -> CheckVerdict:
        """Return the verdict by a rule of collapse."""
        if not self.differs:
            return "nothing differs"
        if self.n_not_finite:
            return "collapsed"
        if self.before is None or self.after is None:
            return self.forecast.verdict
        before, after = rule.perplexity_of(self.before), rule.perplexity_of(self.after)
        if rule.collapsed(after, before):
            return "collapsed"
        return "at risk" if after > DAMAGE_RATIO * before else "alive"

    def why(self, rule: CollapseRule) -> str:
        """Return the reason for the verdict, a sentence."""
        if not self.differs:
            return f"All {self.n_tensors} tensors and the configuration are the same."
        if self.n_not_finite:
            return f"{self.n_not_finite} weights are NaN or infinite."
        if self.before is None or self.after is None:
            return self.forecast.why
        before, after = rule.perplexity_of(self.before), rule.perplexity_of(self.after)
        return (
            f"Perplexity {before:.4g} before, {after:.4g} after, {after / before:.4g} times as "
            f"large ({rule.sentence()})."
        )


def forecast_change(
    changes: tuple[TensorChange, ...],
    settings_changed: tuple[str, ...],
    curve: ChangeCurve | None = None,
) -> ChangeForecast:
    """Return what a difference lets expect before any model is run on texts.

    Args:
        changes: the tensors that differ.
        settings_changed: fields of the configuration that do.
        curve: P(collapse) by the change on text; the package's own where left out.
    """
    reason = next(_beyond(changes, settings_changed), None)
    if reason is not None:
        return ChangeForecast("not known", None, f"Not known without perplexity: {reason}.")
    (change,) = changes
    assert change.text_change is not None
    found = change_curve() if curve is None else curve
    chance = found.curve.at(change.text_change)
    why = (
        f"On text the output of {change.tensor} changes by {change.text_change:.3g} times its "
        f"size; edits of ROME's family are at risk from {found.at_risk_at:.3g} on, likely to "
        f"collapse from {found.collapse_at:.3g}. P(collapse) {chance}, of other models' edits."
    )
    if change.text_change < found.at_risk_at:
        why += " A difference of another making can do more harm with less change: measure it."
        return ChangeForecast("not known", chance, why)
    verdict: Foreseen = "at risk" if change.text_change < found.collapse_at else "will collapse"
    return ChangeForecast(verdict, chance, why)


def _beyond(changes: tuple[TensorChange, ...], settings_changed: tuple[str, ...]) -> Iterator[str]:
    """Yield why the measured edits say nothing of a difference; nothing where they do."""
    if not changes and not settings_changed:
        yield "nothing differs"
    if settings_changed:
        yield f"the configuration differs too ({', '.join(settings_changed)})"
    if len(changes) > 1:
        yield f"{len(changes)} tensors differ, and P(collapse) rests on edits of one"
    for change in changes[:1]:
        if change.n_not_finite:
            yield "there are weights that are NaN or infinite"
        if change.part != "down projection":
            yield f"{change.tensor} is no down projection, and P(collapse) rests on edits of those"
        if not change.has_one_direction:
            yield (
                f"the difference of {change.tensor} is not of rank one, and P(collapse) rests on "
                "such edits"
            )
        if change.text_change is None:
            yield f"the change of {change.tensor} on text was not measured"
        elif not is_supported(change.tokens_per_input):
            yield (
                f"C has {change.tokens_per_input:.1f} tokens for each dimension of the keys, too "
                "few: give a corpus"
            )
