"""A batch behind a guard: from its forecast to the jobs of the edits that are made, and rows.

Edits have the ids that they have without a guard: where nothing is wrong with a batch, its job is
the very one of a study that has none, and so is its cache key. A request with a text before its
prompt is a record of a dataset of its own, with the index and the case of the record that it was
made of.
"""

from collections.abc import Iterator, Sequence

from editcollapse.catalog.methods import METHODS
from editcollapse.data.requests import EditRequest
from editcollapse.fingerprints import digest
from editcollapse.forecast.guard import (
    BatchForecast,
    Decision,
    Guard,
    PrefixedRequest,
    decided,
    templates_to_try,
)
from editcollapse.rows.frames import rows_of
from editcollapse.rows.other import GuardDecisionRow
from editcollapse.rows.study import DatasetRow, RequestRow
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import EditJob, ForecastJob, Manifest
from editcollapse.study.locks import cached_manifest
from editcollapse.study.plan import ModelPlan, StudyPlan
from editcollapse.study.study_rows import dataset_row, request_row


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


NOTHING = BatchForecast((), ())
"""The forecast of no request."""


def read_forecast(store: ArtifactStore, done: Manifest) -> BatchForecast:
    """Return the forecast of a batch from its job's manifest.

    Raises:
        ArtifactError: a row file of it is missing or has changed.
    """
    frames = {ref.table: store.frame(ref) for ref in done.rows if ref.table != "provenance"}
    return BatchForecast(
        rows=rows_of("forecasts", frames["forecasts"]),
        positions=rows_of("positions", frames["positions"]),
    )


def requests_to_try(
    guard: Guard, batch: EditJob, forecasts: BatchForecast
) -> tuple[PrefixedRequest, ...]:
    """Return the batch's requests behind texts that need a forecast before deciding.

    None but with policy ``prefix``, of requests that the guard lets pass by every method, and where
    C has too few tokens for any verdict.
    """
    if guard.policy != "prefix":
        return ()
    templates = templates_to_try(batch.templates)
    return tuple(
        PrefixedRequest.behind(template, request)
        for request in _distinct(batch.requests)
        if any(
            row is not None and not guard.lets_pass(row) and guard.verdict(row) != "not known"
            for row in (forecasts.of(request, method) for method in batch.methods)
        )
        for template in templates
    )


def job_to_try(batch: EditJob, tried: Sequence[PrefixedRequest]) -> ForecastJob:
    """Return the job that forecasts a batch's requests behind texts, all at once."""
    requests = tuple(each.request for each in tried)
    label = f"{batch.batch_label}, with texts before the prompts"
    update = {"requests": requests, "batch_label": label}
    return ForecastJob.of(batch.model_copy(update=update))


def decisions_on(
    guard: Guard,
    batch: EditJob,
    forecasts: BatchForecast,
    tried: Sequence[PrefixedRequest],
    behind: BatchForecast,
) -> tuple[Decision, ...]:
    """Return a decision for each method and request of a batch that its model can take.

    Args:
        guard: of the study.
        batch: as it was asked for.
        forecasts: its forecast.
        tried: ``requests_to_try``.
        behind: their forecast.
    """
    of_request: dict[str, list[PrefixedRequest]] = {}
    for each in tried:
        of_request.setdefault(each.asked.request_id, []).append(each)
    found = []
    for request in _distinct(batch.requests):
        own = of_request.get(request.request_id, ())
        for method in batch.methods:
            row = forecasts.of(request, method)
            if row is not None:
                pairs = [(each, behind.of(each.request, method)) for each in own]
                found.append(decided(guard, row, request, forecasts, pairs))
    return tuple(found)


def jobs_of(batch: EditJob, decisions: Sequence[Decision]) -> tuple[EditJob, ...]:
    """Return the jobs of the edits that are made: one for each set of methods of a request.

    Args:
        batch: as it was asked for.
        decisions: on it.
    """
    if decisions and all(decision.kind == "made" for decision in decisions):
        return (batch,)
    requests: dict[str, EditRequest] = {}
    methods: dict[str, set[str]] = {}
    for decision in decisions:
        if decision.made is not None:
            request = decision.made.request
            requests[request.request_id] = request
            methods.setdefault(request.request_id, set()).add(decision.made.forecast.method)
    in_order = dict.fromkeys((*batch.methods, *METHODS))
    groups: dict[tuple[str, ...], list[EditRequest]] = {}
    for request_id, request in requests.items():
        names = tuple(name for name in in_order if name in methods[request_id])
        groups.setdefault(names, []).append(request)
    return tuple(
        batch.model_copy(update={"methods": names, "requests": tuple(group)})
        for names, group in groups.items()
    )


def known_jobs(
    plan: StudyPlan, model: ModelPlan, templates: Manifest, moment: Manifest
) -> Iterator[tuple[EditJob, tuple[EditJob, ...] | None]]:
    """Yield each batch of a model with the orders of its edits, as far as the store tells them.

    Without a guard a batch is its own job. With one, the jobs are known where the batch has
    a forecast, and None where it has none. Nothing is computed.

    Args:
        plan: the study.
        model: one of its models.
        templates: what its templates unit returned.
        moment: what its covariance unit returned.
    """
    store = ArtifactStore(plan.results)
    for batch in plan.edit_jobs(model, templates, moment):
        guard = model.guard
        yield batch, (batch,) if guard is None else _known(store, guard, batch)


def _known(store: ArtifactStore, guard: Guard, batch: EditJob) -> tuple[EditJob, ...] | None:
    """Return the jobs of a batch whose forecasts have been left behind; else None."""
    done = cached_manifest(ForecastJob.of(batch))
    if done is None:
        return None
    forecasts, behind = read_forecast(store, done), NOTHING
    tried = requests_to_try(guard, batch, forecasts)
    if tried:
        done = cached_manifest(job_to_try(batch, tried))
        if done is None:
            return None
        behind = read_forecast(store, done)
    return jobs_of(batch, decisions_on(guard, batch, forecasts, tried, behind))


def _distinct(requests: Sequence[EditRequest]) -> tuple[EditRequest, ...]:
    """Return the requests, one that the file holds twice once."""
    return tuple({request.request_id: request for request in requests}.values())
