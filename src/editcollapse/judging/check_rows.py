"""What a check has found as rows of the results database, and back; loads no torch."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

from editcollapse.forecast.probability import Probability
from editcollapse.judging.findings import (
    ChangeForecast,
    CheckFindings,
    Foreseen,
    MeasuredTexts,
    RequestScores,
    TensorChange,
)
from editcollapse.judging.inputs import CheckInputs
from editcollapse.rows.checks import CheckNameRow, CheckRow, CheckScoreRow, CheckTensorRow

METHOD = "external"
"""What has edited the model, in table ``checks``: no method of ours."""


def name_row(inputs: CheckInputs) -> CheckNameRow:
    """Return what a check calls its edited model."""
    return CheckNameRow(inputs.check_id, inputs.name, inputs.edited.source)


def check_row(inputs: CheckInputs, found: CheckFindings) -> CheckRow:
    """Return the row of a check."""
    largest, chance = found.largest, found.forecast.probability
    before, after = found.before, found.after
    return CheckRow(
        check_id=inputs.check_id,
        method=METHOD,
        model_id=inputs.model_id,
        model_source=found.base,
        edited_digest=inputs.edited.digest,
        kind=found.kind,
        n_tensors=found.n_tensors,
        n_changed=len(found.changes),
        n_not_finite=found.n_not_finite,
        relative_norm=found.relative_norm,
        settings_changed=", ".join(found.settings_changed) or None,
        text_change=None if largest is None else largest.text_change,
        text_change_tensor=None if largest is None else largest.tensor,
        n_unknown=found.n_unknown,
        covariance=found.covariance,
        n_tokens=None if largest is None else largest.n_tokens,
        forecast=found.forecast.verdict,
        forecast_probability=None if chance is None else chance.value,
        forecast_low=None if chance is None else chance.low,
        forecast_high=None if chance is None else chance.high,
        forecast_why=found.forecast.why,
        notes="\n".join(found.notes) or None,
        text_set=found.text_set,
        text_set_digest=None
        if found.text_set is None or inputs.texts is None
        else inputs.texts.content_digest,
        n_texts=found.n_texts,
        perplexity_before=None if before is None else before.perplexity,
        perplexity_median_before=None if before is None else before.perplexity_median,
        nll_mean_before=None if before is None else before.nll_mean,
        perplexity=None if after is None else after.perplexity,
        perplexity_median=None if after is None else after.perplexity_median,
        nll_mean=None if after is None else after.nll_mean,
    )


def tensor_rows(check_id: str, found: CheckFindings) -> list[CheckTensorRow]:
    """Return a row for each tensor that differs."""
    return [
        CheckTensorRow(
            check_id=check_id, **_fields(each, TensorChange) | {"shape": list(each.shape)}
        )
        for each in found.changes
    ]


def score_rows(check_id: str, found: CheckFindings) -> list[CheckScoreRow]:
    """Return a row for each request and side."""
    return [
        CheckScoreRow(check_id=check_id, **_fields(each, RequestScores)) for each in found.scores
    ]


def findings_of(
    check: CheckRow,
    name: CheckNameRow,
    tensors: Sequence[CheckTensorRow],
    scores: Sequence[CheckScoreRow],
) -> CheckFindings:
    """Return what a check has found, from its rows; tensors and scores in their order."""
    chance = None
    if check.forecast_probability is not None:
        assert check.forecast_low is not None
        assert check.forecast_high is not None
        chance = Probability(check.forecast_probability, check.forecast_low, check.forecast_high)
    return CheckFindings(
        base=check.model_source,
        edited=name.edited_source,
        kind=check.kind,
        n_tensors=check.n_tensors,
        changes=tuple(_tensor_change(each) for each in tensors),
        relative_norm=check.relative_norm,
        settings_changed=tuple((check.settings_changed or "").split(", "))
        if check.settings_changed
        else (),
        notes=tuple((check.notes or "").splitlines()),
        covariance=check.covariance,
        text_set=check.text_set,
        n_texts=check.n_texts,
        before=_measured(
            check.perplexity_before, check.perplexity_median_before, check.nll_mean_before
        ),
        after=_measured(check.perplexity, check.perplexity_median, check.nll_mean),
        scores=tuple(_request_scores(each) for each in scores),
        forecast=ChangeForecast(cast("Foreseen", check.forecast), chance, check.forecast_why),
    )


def _measured(
    perplexity: float | None, median: float | None, nll: float | None
) -> MeasuredTexts | None:
    if perplexity is None or median is None or nll is None:
        return None
    return MeasuredTexts(perplexity, median, nll)


def _tensor_change(row: CheckTensorRow) -> TensorChange:
    return TensorChange(**_fields(row, TensorChange) | {"shape": tuple(row.shape)})


def _request_scores(row: CheckScoreRow) -> RequestScores:
    return RequestScores(**_fields(row, RequestScores))


def _fields(found: object, kind: type[TensorChange] | type[RequestScores]) -> dict[str, Any]:
    """Return the fields of a kind, which a row has under the same names."""
    return {each.name: getattr(found, each.name) for each in dataclasses.fields(kind)}
