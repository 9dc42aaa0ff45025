"""The forecasts of a study as a report, read from the published results."""

from editcollapse.errors import ResultsError
from editcollapse.forecast.verdicts import (
    ForecastReport,
    ModelThresholds,
    RequestForecast,
    Thresholds,
    by_request,
    judged,
)
from editcollapse.study.locks import left_behind
from editcollapse.study.plan import ModelPlan, StudyPlan
from editcollapse.study.results_folder import place_of
from storage.publish import folder_to_read
from storage.readers import forecast_rows, position_rows, thresholds


def study_report(plan: StudyPlan) -> ForecastReport:
    """Return the published forecasts of a study, in the order of its models and requests.

    Raises:
        ResultsError: they are not there.
    """
    folder = folder_to_read(place_of(plan.results))
    basis: list[ModelThresholds] = []
    found: list[RequestForecast] = []
    unusable: list[str] = []
    for model in plan.models:
        limits = thresholds(folder, model.order.model_id)
        basis.append(ModelThresholds(model.order.spec.name, limits, limits.basis))
        ours, left_out = _of_model(plan, model, limits)
        found += ours
        unusable += left_out
    return ForecastReport(tuple(basis), tuple(found), tuple(unusable))


def _of_model(
    plan: StudyPlan, model: ModelPlan, limits: Thresholds
) -> tuple[list[RequestForecast], list[str]]:
    """Return one model's forecasts, and a sentence for each request that has none."""
    folder = folder_to_read(place_of(plan.results))
    templates, moment = left_behind(model.templates), left_behind(model.moment)
    if templates is None or moment is None:
        raise ResultsError(
            f"templates or covariance of {model.order.spec.name} are not whole in {plan.results}. "
            "Run the same command again."
        )
    requests = tuple(record.request for record in plan.requests.records)
    batch = next(plan.edit_orders(model, templates, moment))
    rows = by_request(forecast_rows(folder, batch.model_copy(update={"requests": requests})))
    positions = position_rows(folder, model.order.model_id)
    found, unusable = [], []
    for request in requests:
        ours = rows.get(request.request_id)
        if ours is None:
            unusable.append(
                f"{model.order.spec.name} cannot take {request.filled_prompt!r} -> "
                f"{request.target_new!r}: table rejections says why"
            )
            continue
        position = positions[request.request_id]
        found.append(
            RequestForecast(
                model=model.order.spec.name,
                layer=model.order.layer,
                subject=request.subject,
                prompt=request.prompt,
                target_new=request.target_new,
                position=position,
                methods=judged(ours, position, limits),
            )
        )
    return found, unusable
