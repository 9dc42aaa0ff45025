"""Verdicts of a forecast: safe, at risk, likely to collapse or not known, and why; what to use.

The verdict looks at one number, how much the edit may change the layer on text, and at two
thresholds that a calibration took from measured edits. Where C was measured on too few tokens that
number is noise, and nothing is known. It is the same rule as the database's ``forecast_verdict``.
A sweep's verdicts are counted by layer.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Literal

from editcollapse.catalog.methods import method_of
from editcollapse.errors import StudyError
from editcollapse.forecast.probability import CollapseCurve, Probability
from editcollapse.rows.study import ForecastRow, PositionRow

Verdict = Literal["safe", "at risk", "will collapse", "not known"]
"""As study files, tables and JSON have it; ``in_words`` is for people."""

ALTERNATIVES = ("c_rome", "v_relative", "p_rome")
"""Methods to use instead, in this order: the paper's remedy first."""
SUPPORTED_TOKENS_PER_D_KEY = 8.0
"""Tokens of C for each of its dimensions below which verdicts are ``not known``: docs/results.md.
As in ``storage/sql/views/40_forecast_verdicts.sql``."""
STUDY_FILE = "study file"
"""``calibration_id`` of thresholds that a study file gives."""


@dataclasses.dataclass(frozen=True, slots=True)
class Thresholds:
    """Values of ``text_change_bound`` from which on verdicts change."""

    at_risk_at: float
    collapse_at: float
    calibration_id: str
    n_edits: int
    """Measured edits that they were taken from; 0 with the default."""
    n_collapsed: int
    is_default: bool
    curve: CollapseCurve | None = None
    """P(collapse); None where a calibration has none."""
    never_safe_from: float | None = None
    """No edit is safe from here on, whatever P(collapse) is: measured edits collapsed near by. None
    as ``curve``."""

    def accepting(self, safe_below: float) -> "Thresholds":
        """Return thresholds by which P(collapse) of a safe edit is below a risk that is accepted.

        What measured collapses forbid stays forbidden, however much is accepted.

        Args:
            safe_below: P(collapse), above 0 and below 1.

        Raises:
            StudyError: it is no such fraction, or the model's calibration has no P(collapse).
        """
        if not 0 < safe_below < 1:
            raise StudyError(
                f"safe_below is {safe_below:g}; give a probability above 0 and below 1, such as "
                "0.05."
            )
        if self.curve is None or self.never_safe_from is None:
            raise StudyError(
                f"calibration {self.calibration_id} has no P(collapse), which safe_below is "
                "compared with: it is an earlier version's, or the edits that it was taken from do "
                "not collapse more often at larger bounds. Calibrate again, from more edits: "
                "editcollapse calibrate"
            )
        at_risk_at = min(self.never_safe_from, self.curve.bound_at(safe_below))
        return dataclasses.replace(
            self, at_risk_at=at_risk_at, collapse_at=max(at_risk_at, self.collapse_at)
        )

    def probability(self, bound: float) -> Probability | None:
        """Return P(collapse) at a change bound; None where the curve is not known."""
        return None if self.curve is None else self.curve.at(bound)

    @property
    def basis(self) -> str:
        """Where the thresholds come from, for people."""
        if self.is_default:
            return (
                "default thresholds and P(collapse), not calibrated on edits of this model: from "
                "edits of other models that the package carries; no edit of theirs collapsed below "
                f"{self.at_risk_at:.3g}, which does not promise that none of yours will "
                "(editcollapse calibrate, in a checkout of the project, takes yours)"
            )
        if self.calibration_id == STUDY_FILE:
            return "thresholds of the study file"
        return (
            f"thresholds calibrated on {self.n_edits} measured edits of this model, "
            f"{self.n_collapsed} of which collapsed"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class MethodVerdict:
    """One method's part of the answer for one request."""

    forecast: ForecastRow
    verdict: Verdict
    why: str
    """A sentence."""
    instead: str | None
    """A method that is safe for the request; None where this one is, or none is."""
    probability: Probability | None
    """P(collapse); None where the thresholds have no curve, or nothing is known."""


def in_words(verdict: str) -> str:
    """Return a verdict as people read it: a forecast bounds what an edit may do."""
    return "likely to collapse" if verdict == "will collapse" else verdict


def is_supported(tokens_per_d_key: float | None) -> bool:
    """Return whether C has seen tokens enough for a verdict.

    Args:
        tokens_per_d_key: its tokens for each of its dimensions; None for the identity.
    """
    return tokens_per_d_key is None or tokens_per_d_key >= SUPPORTED_TOKENS_PER_D_KEY


def supported_tokens(d_key: int) -> int:
    """Return the fewest tokens that a C of this width needs for a verdict."""
    return math.ceil(SUPPORTED_TOKENS_PER_D_KEY * d_key)


def support_warning(n_tokens: int, d_key: int) -> str | None:
    """Return that a budget is too small for verdicts, and what is enough; None where it is not.

    Args:
        n_tokens: of C.
        d_key: its dimensions.
    """
    if is_supported(n_tokens / d_key):
        return None
    return (
        f"C of {n_tokens:,} tokens has {n_tokens / d_key:.1f} for each of its {d_key:,} "
        f"dimensions: forecasts will be not known. Take {supported_tokens(d_key):,} or more."
    )


def verdict_of(bound: float, tokens_per_d_key: float | None, thresholds: Thresholds) -> Verdict:
    """Return the verdict on one bound; what cannot be compared (nan) is not safe.

    Args:
        bound: ``text_change_bound``.
        tokens_per_d_key: of the C that it rests on; None for the identity.
        thresholds: of a calibration.
    """
    if not is_supported(tokens_per_d_key):
        return "not known"
    if bound < thresholds.at_risk_at:
        return "safe"
    return "at risk" if bound < thresholds.collapse_at else "will collapse"


def unsupported(row: ForecastRow) -> str:
    """Return why nothing is known of an edit: C has too few tokens, and how many it needs."""
    assert row.n_tokens is not None
    assert row.tokens_per_d_key is not None
    d_key = round(row.n_tokens / row.tokens_per_d_key)
    return (
        f"C has {row.tokens_per_d_key:.1f} tokens per dimension ({row.n_tokens:,} for {d_key:,}), "
        f"too few to tell what an edit changes on text: take at least {supported_tokens(d_key):,}."
    )


def judged(
    rows: Sequence[ForecastRow], position: PositionRow, thresholds: Thresholds
) -> tuple[MethodVerdict, ...]:
    """Return the verdict on each method for one request, in the order of the rows.

    Args:
        rows: the request's forecasts, one a method.
        position: where its subject stands.
        thresholds: of a calibration.
    """
    by_method = {row.method: row for row in rows}
    safe = [
        by_method[name]
        for name in ALTERNATIVES
        if name in by_method and _verdict(by_method[name], thresholds) == "safe"
    ]
    found = []
    for row in rows:
        verdict = _verdict(row, thresholds)
        other = None if verdict == "safe" or not safe else safe[0]
        why = _why(row, position, thresholds, verdict)
        if verdict not in {"safe", "not known"}:
            why = f"{why} {_advice(other, position)}"
        instead = None if other is None else other.method
        probability = (
            None if verdict == "not known" else thresholds.probability(row.text_change_bound)
        )
        found.append(MethodVerdict(row, verdict, why, instead, probability))
    return tuple(found)


def by_request(rows: Iterable[ForecastRow]) -> dict[str, list[ForecastRow]]:
    """Return request id to its forecasts."""
    found: dict[str, list[ForecastRow]] = {}
    for row in rows:
        found.setdefault(row.request_id, []).append(row)
    return found


def _verdict(row: ForecastRow, thresholds: Thresholds) -> Verdict:
    return verdict_of(row.text_change_bound, row.tokens_per_d_key, thresholds)


def _why(row: ForecastRow, position: PositionRow, thresholds: Thresholds, verdict: Verdict) -> str:
    """Return the reason for the verdict."""
    if verdict == "not known":
        return unsupported(row)
    bound = f"{row.text_change_bound:.3g} times"
    if verdict == "safe":
        return (
            f"On text the layer's output changes by {bound} its size at most, whatever v* will be; "
            f"edits are at risk from {thresholds.at_risk_at:.3g} on.{_chance(row, thresholds)}"
        )
    key = "k0" if method_of(row.method).divide_with == "bare" else "kbar"
    cause = (
        f"{row.method} divides by {key} . u = {row.denominator:.3g} (rho {row.rho:.3g}), so on "
        f"text it may change the layer's output by {bound} its size"
    )
    if position.is_first_token:
        cause += "; the subject is the prompt's first token, whose key is unlike all others"
    if not thresholds.is_default:
        many = "some" if verdict == "at risk" else "nearly all"
        cause += f": {many} measured edits as large collapsed this model"
    return f"{cause}.{_chance(row, thresholds)}"


def _chance(row: ForecastRow, thresholds: Thresholds) -> str:
    """Return P(collapse) as a sentence, where it is known."""
    chance = thresholds.probability(row.text_change_bound)
    whose = "of other models' edits" if thresholds.is_default else "of this model's edits"
    return "" if chance is None else f" P(collapse) {chance}, {whose}."


def _advice(other: ForecastRow | None, position: PositionRow) -> str:
    """Return the advice that goes with the verdict."""
    if other is None:
        return "No method is safe here: put a text before the prompt, and forecast again."
    text = f"Use {other.method}: it stays below {other.text_change_bound:.3g}"
    if position.is_first_token and method_of(other.method).solve_with == "prefixed":
        return f"{text}, and ask with a text before the prompt, where its edit shows."
    return f"{text}."


@dataclasses.dataclass(frozen=True, slots=True)
class RequestForecast:
    """The whole answer for one request of one model."""

    model: str
    """What the study or the user calls the model."""
    layer: int
    subject: str
    prompt: str
    target_new: str
    position: PositionRow
    methods: tuple[MethodVerdict, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ModelThresholds:
    """Thresholds of the verdicts on one model's edits, and their basis."""

    model: str
    """What the study or the user calls the model."""
    thresholds: Thresholds
    basis: str
    """For people."""


@dataclasses.dataclass(frozen=True, slots=True)
class ForecastReport:
    """Forecasts and what their verdicts rest on."""

    basis: tuple[ModelThresholds, ...]
    requests: tuple[RequestForecast, ...]
    unusable: tuple[str, ...] = ()
    """A sentence for each request that a model cannot take."""


@dataclasses.dataclass(frozen=True, slots=True)
class EditForecast:
    """Forecast of one edit by one method, from keys and C alone: no v* has been optimised."""

    method: str
    verdict: Verdict
    """safe, at risk, will collapse, or not known; ``in_words`` for people."""
    change_bound: float
    """How many times its own size the layer's output on text may change, whatever v* is."""
    at_risk_at: float
    """Change bound from which on an edit is at risk."""
    collapse_at: float
    """Change bound from which on it is likely to collapse the model."""
    update_norm_bound: float
    """Frobenius norm that the update cannot exceed."""
    denominator: float
    """a · u, signed."""
    rho: float
    """(k0 · u) / (kbar · u)."""
    subject_position: str
    """first_token, first_several or inside."""
    why: str
    """A sentence."""
    instead: str | None
    """A method that is safe for the request; None where this one is, or none is."""
    basis: str
    """What the verdict rests on."""
    probability: float | None
    """P(collapse), fraction 0-1; None where the calibration has none, or C too few tokens."""
    probability_low: float | None
    """Lower end of its 95 % interval."""
    probability_high: float | None
    """Upper end."""
    tokens_per_d_key: float | None
    """Tokens of C for each of its dimensions; None for the identity."""

    @classmethod
    def of(cls, report: ForecastReport, method: str) -> "EditForecast":
        """Return one method's part of a report of one request."""
        (one,), (basis,) = report.requests, report.basis
        found = next(each for each in one.methods if each.forecast.method == method)
        row, chance = found.forecast, found.probability
        return cls(
            method=method,
            verdict=found.verdict,
            change_bound=row.text_change_bound,
            at_risk_at=basis.thresholds.at_risk_at,
            collapse_at=basis.thresholds.collapse_at,
            update_norm_bound=row.certified_bound,
            denominator=row.denominator,
            rho=row.rho,
            subject_position=one.position.subject_position,
            why=found.why,
            instead=found.instead,
            basis=basis.basis,
            probability=None if chance is None else chance.value,
            probability_low=None if chance is None else chance.low,
            probability_high=None if chance is None else chance.high,
            tokens_per_d_key=row.tokens_per_d_key,
        )

    def __str__(self) -> str:
        return f"{self.method}: {in_words(self.verdict)}. {self.why}"


@dataclasses.dataclass(frozen=True, slots=True)
class LayerVerdicts:
    """Verdicts on the requests of one kind of subject, at one layer by one method."""

    model: str
    """What the study calls it."""
    layer: int
    method: str
    subject_position: str
    """first_token, first_several or inside."""
    n_requests: int
    n_safe: int
    n_at_risk: int
    n_will_collapse: int
    median_denominator: float
    """Of |a . u|."""
    median_bound: float
    """Of text_change_bound."""
    largest_bound: float
    n_not_known: int

    @property
    def is_safe(self) -> bool:
        """Whether all of them are safe."""
        return self.n_safe == self.n_requests


@dataclasses.dataclass(frozen=True, slots=True)
class SafeLayers:
    """At which of a model's layers every request is safe by one method."""

    model: str
    method: str
    layers: tuple[int, ...]
    safest_layer: int
    """Where the largest bound of all requests is the smallest."""
    largest_bound: float
    """Of any request there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unswept:
    """Number of requests that a model cannot take."""

    model: str
    n_requests: int


@dataclasses.dataclass(frozen=True, slots=True)
class SweepReport:
    """The sweep of a study and what its verdicts rest on."""

    basis: tuple[ModelThresholds, ...]
    layers: tuple[LayerVerdicts, ...]
    """By model, layer, method and position."""
    safe_layers: tuple[SafeLayers, ...]
    unswept: tuple[Unswept, ...]
    """Models that cannot take some of the requests."""
    notes: tuple[str, ...]
    """What to know of single layers, a sentence each."""


def safe_layers(rows: Sequence[LayerVerdicts]) -> tuple[SafeLayers, ...]:
    """Return the layers at which all requests are safe, for each model and method.

    Args:
        rows: by model, layer and method; all positions of each.
    """
    groups: dict[tuple[str, str], list[LayerVerdicts]] = {}
    for row in rows:
        groups.setdefault((row.model, row.method), []).append(row)
    found = []
    for (model, method), ours in groups.items():
        layers = sorted({row.layer for row in ours})
        largest = {
            layer: max(row.largest_bound for row in ours if row.layer == layer) for layer in layers
        }
        best = min(layers, key=lambda layer: largest[layer])
        safe = [layer for layer in layers if all(row.is_safe for row in ours if row.layer == layer)]
        found.append(SafeLayers(model, method, tuple(safe), best, largest[best]))
    return tuple(found)
