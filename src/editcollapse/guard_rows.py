"""The rows that a guard leaves: its decisions, and requests with a text before their prompt.

Such a request is a record of a dataset of its own, which is the study's with one text before all of
its prompts: with the place and the case of the record that it was made of.
"""

from collections.abc import Sequence

from editcollapse.answer_outcomes import GuardDecisionRow
from editcollapse.fingerprints import digest
from editcollapse.guarding import Decision, Guard, PrefixedRequest
from editcollapse.outcomes import DatasetRow, RequestRow
from editcollapse.planning import StudyPlan
from editcollapse.study_rows import dataset_row, request_row


def decision_rows(
    plan: StudyPlan, guard: Guard, decisions: Sequence[Decision]
) -> list[GuardDecisionRow]:
    """Return decisions as rows."""
    return [_decision_row(plan, guard, decision) for decision in decisions]


def prefixed_dataset_rows(plan: StudyPlan, tried: Sequence[PrefixedRequest]) -> list[DatasetRow]:
    """Return a row for the study's dataset behind each text that was tried."""
    return [
        dataset_row(plan.requests, _prefixed_id(plan, template), f"{plan.requests.name}, prefixed")
        for template in dict.fromkeys(each.template for each in tried)
    ]


def prefixed_request_rows(
    plan: StudyPlan, batch_index: int, tried: Sequence[PrefixedRequest]
) -> list[RequestRow]:
    """Return a row for each request of a batch behind each text that was tried before it."""
    records = {
        record.request.request_id: record for record in reversed(plan.records_of(batch_index))
    }
    return [
        request_row(records[each.asked.request_id], each.request, _prefixed_id(plan, each.template))
        for each in tried
    ]


def _prefixed_id(plan: StudyPlan, template: str) -> str:
    """Return the id of the study's dataset with one text before all of its prompts."""
    return digest("prefixed", plan.requests.content_digest, template)


def _decision_row(plan: StudyPlan, guard: Guard, decision: Decision) -> GuardDecisionRow:
    asked, made, limits = decision.asked, decision.made, guard.thresholds
    dataset_id = plan.requests.content_digest
    if made is not None and made.template is not None:
        dataset_id = _prefixed_id(plan, made.template)
    return GuardDecisionRow(
        study_id=plan.study_id,
        model_id=asked.model_id,
        layer=asked.layer,
        method=asked.method,
        request_id=asked.request_id,
        policy=guard.policy,
        acts_at=guard.acts_at,
        verdict=decision.verdict,
        text_change_bound=asked.text_change_bound,
        at_risk_at=limits.at_risk_at,
        collapse_at=limits.collapse_at,
        calibration_id=limits.calibration_id,
        decision=decision.kind,
        edit_id=None if made is None else made.forecast.edit_id,
        made_method=None if made is None else made.forecast.method,
        made_request_id=None if made is None else made.forecast.request_id,
        made_dataset_id=None if made is None else dataset_id,
        made_bound=None if made is None else made.forecast.text_change_bound,
        reason=decision.reason,
    )
