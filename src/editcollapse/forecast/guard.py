"""The guard: an edit is made as asked, refused, or made in another way, with the reason.

Pure: from the forecasts of a request, by every method and behind other texts, to a decision.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Literal

from editcollapse.config.spec import ActsAt, GuardSpec, Policy
from editcollapse.data.requests import SLOT, EditRequest
from editcollapse.forecast.verdicts import (
    ALTERNATIVES,
    STUDY_FILE,
    Thresholds,
    Verdict,
    unsupported,
    verdict_of,
)
from editcollapse.rows.study import ForecastRow, PositionRow

DecisionKind = Literal["made", "refused", "switched", "prefixed"]

MAX_TRIED = 5
"""Texts that are tried before a prompt, at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class Guard:
    """A study's guard of one model, with the thresholds that it acts by."""

    policy: Policy
    acts_at: ActsAt
    thresholds: Thresholds
    switch_to: tuple[str, ...]
    """Methods to take instead, in order of preference; empty with another policy."""

    @classmethod
    def of(cls, spec: GuardSpec, calibrated: Thresholds) -> "Guard":
        """Return the guard that a study file asks for.

        Args:
            spec: the file's words.
            calibrated: thresholds of the model, for a file that gives none.

        Raises:
            StudyError: the file gives a risk, and the model's calibration has no P(collapse).
        """
        thresholds = calibrated
        if spec.safe_below is not None:
            thresholds = calibrated.accepting(spec.safe_below)
        if spec.at_risk_at is not None and spec.collapse_at is not None:
            thresholds = Thresholds(
                spec.at_risk_at, spec.collapse_at, STUDY_FILE, 0, 0, is_default=False
            )
        switch_to = (spec.switch_to or ALTERNATIVES) if spec.policy == "switch" else ()
        return cls(spec.policy, spec.acts_at, thresholds, switch_to)

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells two guards apart: all that decisions and their rows depend on."""
        limits = self.thresholds
        bounds = (limits.at_risk_at, limits.collapse_at, limits.calibration_id)
        return (self.policy, self.acts_at, bounds, self.switch_to)

    @property
    def acts_from(self) -> float:
        """Change bound from which on the guard acts."""
        limits = self.thresholds
        return limits.at_risk_at if self.acts_at == "at risk" else limits.collapse_at

    def verdict(self, row: ForecastRow) -> Verdict:
        """Return the verdict on an edit."""
        return verdict_of(row.text_change_bound, row.tokens_per_d_key, self.thresholds)

    def lets_pass(self, row: ForecastRow) -> bool:
        """Return whether an edit is made as asked; what is not known passes as what is at risk."""
        passing = {"safe"} if self.acts_at == "at risk" else {"safe", "at risk", "not known"}
        return self.verdict(row) in passing


@dataclasses.dataclass(frozen=True)  # no slots: they leave no room for what is looked up
class BatchForecast:
    """The forecasts of some requests, with the positions of their subjects."""

    rows: Sequence[ForecastRow]
    positions: Sequence[PositionRow]

    @cached_property
    def _by_edit(self) -> dict[tuple[str, str], ForecastRow]:
        return {(row.request_id, row.method): row for row in self.rows}

    @cached_property
    def _first(self) -> frozenset[str]:
        return frozenset(row.request_id for row in self.positions if row.is_first_token)

    def is_first_token(self, request: EditRequest) -> bool:
        """Return whether a subject's last token is its prompt's first."""
        return request.request_id in self._first

    def of(self, request: EditRequest, method: str) -> ForecastRow | None:
        """Return the forecast of one edit; None where the model cannot take the request."""
        return self._by_edit.get((request.request_id, method))


@dataclasses.dataclass(frozen=True, slots=True)
class PrefixedRequest:
    """A request with a text before its prompt."""

    asked: EditRequest
    template: str
    request: EditRequest

    @classmethod
    def behind(cls, template: str, asked: EditRequest) -> "PrefixedRequest":
        """Return a request whose prompt stands in a context template; its probes are as asked."""
        prompt = template.replace(SLOT, asked.prompt)
        return cls(asked, template, dataclasses.replace(asked, prompt=prompt))


@dataclasses.dataclass(frozen=True, slots=True)
class MadeEdit:
    """The edit that is made: as asked or in another way."""

    forecast: ForecastRow
    request: EditRequest
    template: str | None = None
    """What its prompt stands in, where that is not the prompt as asked."""


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """The guard's decision on one edit that was asked for."""

    asked: ForecastRow
    request: EditRequest
    verdict: Verdict
    kind: DecisionKind
    made: MadeEdit | None
    """None where it is refused."""
    reason: str
    """One sentence or two."""


def templates_to_try(templates: Sequence[str]) -> tuple[str, ...]:
    """Return the first context templates that put a text before a prompt."""
    return tuple(template for template in templates if template != SLOT)[:MAX_TRIED]


def decided(
    guard: Guard,
    asked: ForecastRow,
    request: EditRequest,
    forecasts: BatchForecast,
    tried: Iterable[tuple[PrefixedRequest, ForecastRow | None]] = (),
) -> Decision:
    """Return the decision on one edit.

    Args:
        guard: what to do, and from which bound on.
        asked: the edit's forecast.
        request: its request.
        forecasts: the request's forecasts by all methods, and its subject's position.
        tried: with policy ``prefix``: the request behind texts, in the order to prefer, each with
            its forecast by the same method; None where the model cannot take it.
    """
    verdict = guard.verdict(asked)
    if guard.lets_pass(asked):
        made = MadeEdit(asked, request)
        return Decision(asked, request, verdict, "made", made, _passed(guard, asked, verdict))
    if verdict == "not known":
        reason = f"{unsupported(asked)} Refused, as no method and no text before it changes that."
        return Decision(asked, request, verdict, "refused", None, reason)
    why = _why(guard, asked, verdict, is_first=forecasts.is_first_token(request))
    kind, instead, outcome = _instead(guard, asked, request, forecasts, tuple(tried))
    return Decision(asked, request, verdict, kind, instead, f"{why} {outcome}")


def _instead(
    guard: Guard,
    asked: ForecastRow,
    request: EditRequest,
    forecasts: BatchForecast,
    tried: Sequence[tuple[PrefixedRequest, ForecastRow | None]],
) -> tuple[DecisionKind, MadeEdit | None, str]:
    """Return the decision on an edit that the guard stops, and a sentence."""
    if guard.policy == "refuse":
        return "refused", None, "The guard refuses such edits."
    found: list[ForecastRow] = []
    if guard.policy == "switch":
        for method in guard.switch_to:
            row = forecasts.of(request, method)
            if row is None or method == asked.method:
                continue
            if guard.verdict(row) == "safe":
                text = f"Made by {method} instead, which stays below {_times(row)}."
                return "switched", MadeEdit(row, request), text
            found.append(row)
        return "refused", None, _none_safe(found, f"of {', '.join(guard.switch_to)}")
    for prefixed, row in tried:
        if row is None:
            continue
        if guard.verdict(row) == "safe":
            text = (
                f"Made with {_before(prefixed.template)!r} before the prompt, where {row.method} "
                f"stays below {_times(row)}."
            )
            return "prefixed", MadeEdit(row, prefixed.request, prefixed.template), text
        found.append(row)
    return "refused", None, _none_safe(found, f"of {len(tried)} texts before the prompt")


def _passed(guard: Guard, row: ForecastRow, verdict: Verdict) -> str:
    """Return why an edit is made as asked."""
    if verdict == "not known":
        return (
            f"{unsupported(row)} The guard acts on edits that are likely to collapse the model. "
            "Made as asked."
        )
    bound = f"On text {row.method} changes the layer's output by {_times(row)} its size at most"
    limits = guard.thresholds
    if verdict == "safe":
        return (
            f"{bound} (rho {row.rho:.3g}); edits are at risk from {limits.at_risk_at:.3g} on. "
            "Made as asked."
        )
    return (
        f"{bound} (rho {row.rho:.3g}), which is at risk; the guard acts from "
        f"{guard.acts_from:.3g} on. Made as asked."
    )


def _why(guard: Guard, row: ForecastRow, verdict: Verdict, *, is_first: bool) -> str:
    """Return why an edit is not made as asked."""
    first = ", and the subject is the prompt's first token" if is_first else ""
    if math.isnan(row.text_change_bound):
        return f"{row.method} has a change bound that is no number (rho {row.rho:.3g}){first}."
    limits = guard.thresholds
    limit = limits.at_risk_at if verdict == "at risk" else limits.collapse_at
    return (
        f"On text {row.method} may change the layer's output by {_times(row)} its size (rho "
        f"{row.rho:.3g}){first}; from {limit:.3g} on an edit "
        f"{'is at risk' if verdict == 'at risk' else 'is likely to collapse the model'}."
    )


def _none_safe(found: Sequence[ForecastRow], what: str) -> str:
    """Return that nothing else is safe, and how near it came."""
    if not found:
        return f"Refused: none {what} is there to try."
    bounds = [row.text_change_bound for row in found if not math.isnan(row.text_change_bound)]
    smallest = f": the smallest change bound is {min(bounds):.3g}" if bounds else ""
    return f"Refused, as none {what} is safe{smallest}."


def _times(row: ForecastRow) -> str:
    return f"{row.text_change_bound:.3g} times"


def _before(template: str) -> str:
    """Return the text that a template puts before a prompt."""
    return template.split(SLOT, maxsplit=1)[0].strip()
