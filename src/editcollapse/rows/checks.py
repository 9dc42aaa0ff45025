"""Row types of checks: an edited model beside the one that it was made from.

None means not measured, or that there is no such thing. ``inf`` and ``nan`` are measurements and
are kept.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class CheckRow:
    """One edited model beside its unedited one: differences, forecast and perplexities."""

    check_id: str
    method: str
    model_id: str
    model_source: str
    edited_digest: str
    kind: str
    n_tensors: int
    n_changed: int
    n_not_finite: int
    relative_norm: float
    settings_changed: str | None
    text_change: float | None
    text_change_tensor: str | None
    n_unknown: int
    covariance: str | None
    n_tokens: int | None
    forecast: str
    forecast_probability: float | None
    forecast_low: float | None
    forecast_high: float | None
    forecast_why: str
    notes: str | None
    text_set: str | None
    text_set_digest: str | None
    n_texts: int
    perplexity_before: float | None
    perplexity_median_before: float | None
    nll_mean_before: float | None
    perplexity: float | None
    perplexity_median: float | None
    nll_mean: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class CheckNameRow:
    """What somebody who asked for a check calls the edited model."""

    check_id: str
    name: str
    edited_source: str


@dataclasses.dataclass(frozen=True, slots=True)
class CheckTensorRow:
    """One tensor that differs."""

    check_id: str
    tensor: str
    layer: int | None
    part: str
    shape: list[int]
    n_entries: int
    n_changed: int
    n_not_finite: int
    max_abs: float
    norm: float
    weight_norm: float
    relative_norm: float
    spectral_norm: float | None
    effective_rank: float | None
    first_share: float | None
    text_change: float | None
    n_tokens: int | None
    tokens_per_input: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class CheckScoreRow:
    """What one of the two models answers to the probes of one request.

    Scores are those of table ``measurements``.
    """

    check_id: str
    request_id: str
    side: str
    subject: str
    target_new: str
    efficacy: float
    generalization: float | None
    locality: float | None
    efficacy_score: float | None
    paraphrase_score: float | None
    neighborhood_score: float | None
    target_new_nll: float
