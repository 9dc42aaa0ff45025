"""Forecasts as reports: of a study from the database, of one edit computed in this process."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from editcollapse.errors import MomentError, ResultsError, StudyError
from editcollapse.forecast_orders import KnownSetup
from editcollapse.model_files import ModelFiles, digest_model, locate_model
from editcollapse.once import left_behind
from editcollapse.orders import ModelOrder
from editcollapse.places import place_of
from editcollapse.planning import ModelPlan, StudyPlan
from editcollapse.presets import preset_for
from editcollapse.record_fields import RecordError
from editcollapse.request_fields import check_lengths, slotted_prompt
from editcollapse.requests import EditRequest
from editcollapse.runtime import asked_device
from editcollapse.specs import CovarianceSpec, ModelSpec, TemplateSpec
from editcollapse.verdicts import (
    ForecastReport,
    ModelThresholds,
    RequestForecast,
    Thresholds,
    by_request,
    judged,
)
from flows.forecast_options import FROM_RESULTS, IDENTITY
from flows.guarded_plan import present_thresholds, published_folder
from storage.calibration import thresholds
from storage.forecasts import forecast_rows, known_setups, position_rows
from storage.sharing import folder_to_read


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


def edit_report(options: argparse.Namespace) -> ForecastReport:
    """Return the forecast of the edit that the command line names.

    Raises:
        EditCollapseError: the model or C is missing, or the model cannot take the edit.
    """
    request = asked_request(options)
    files = locate_model(options.model, options.revision)
    spec = ModelSpec(
        name="edited",
        source=options.model,
        revision=options.revision,
        dtype=options.dtype,
        start_token=options.start_token,
    )
    model_id = digest_model(files, spec).model_id
    place = place_of(options.results)
    published, limits = published_folder(place), present_thresholds(place, model_id)
    known = None
    if options.covariance == FROM_RESULTS:
        known = known_setup(published, model_id, options)
    covariance = None if known is not None else asked_covariance(options)
    order = edited_model(spec, model_id, files, known, options.layer)
    from editcollapse.edit_setups import known_edit, new_edit
    from editcollapse.models import load_model
    from editcollapse.single_forecast import forecast_one

    loaded = load_model(spec, asked_device())
    if known is not None:
        setup = known_edit(place.name, order, known, request)
    else:
        assert covariance is not None
        setup = new_edit(loaded, order, covariance, TemplateSpec(), 0, request)
    return forecast_one(loaded, files.source, setup, limits)


def asked_request(options: argparse.Namespace) -> EditRequest:
    """Return the request that the command line names.

    Raises:
        StudyError: a word is missing, or the prompt has no slot.
    """
    subject, target = options.subject.strip(), options.target.strip()
    if not subject or not target:
        raise StudyError("--subject and --target must hold a word each; one of them is blank.")
    try:
        prompt = slotted_prompt(options.prompt, subject, "--prompt")
        return check_lengths(EditRequest(subject, prompt, target, None))
    except RecordError as error:
        raise StudyError(str(error)) from error


def known_setup(published: Path | None, model_id: str, options: argparse.Namespace) -> KnownSetup:
    """Return the set-up of a study in the results folder.

    Raises:
        MomentError: there is none for this model, or none of this layer, or several.
    """
    instead = (
        "Forecast a study with this model first (python -m flows forecast STUDY.toml), or say "
        "where C comes from: --covariance identity, or --covariance CORPUS.txt"
    )
    known: Sequence[KnownSetup] = ()
    if published is not None:
        known = known_setups(published, model_id)
    if not known:
        raise MomentError(
            f"no second moment C for {options.model} in {options.results}: no study there edits "
            f"this model with dtype {options.dtype} and start token {options.start_token!r}. "
            f"{instead}."
        )
    layers = sorted({each.layer for each in known})
    if options.layer is not None:
        known = [each for each in known if each.layer == options.layer]
    if not known:
        raise MomentError(
            f"no second moment C of layer {options.layer} of {options.model} in {options.results}: "
            f"studies there edit layer {', '.join(map(str, layers))}. {instead}."
        )
    if options.layer is None and len(layers) > 1:
        raise MomentError(
            f"which layer? Studies in {options.results} edit layers {', '.join(map(str, layers))} "
            f"of {options.model}. Give --layer N."
        )
    return known[0]


def asked_covariance(options: argparse.Namespace) -> CovarianceSpec:
    """Return where C is to come from, which is not the results folder.

    Raises:
        StudyError: a number is out of range.
    """
    if options.covariance == IDENTITY:
        return CovarianceSpec(kind="identity")
    try:
        return CovarianceSpec(
            source=options.covariance, n_tokens=options.tokens, damping=options.damping
        )
    except ValidationError as error:
        raise StudyError(
            f"--tokens {options.tokens} --damping {options.damping:g}: tokens have to be at least "
            "1, and damping at least 0."
        ) from error


def edited_model(
    spec: ModelSpec, model_id: str, files: ModelFiles, known: KnownSetup | None, layer: int | None
) -> ModelOrder:
    """Return layer and v* settings: the known set-up's, else the preset's."""
    if known is not None:
        return ModelOrder(
            spec=spec,
            model_id=model_id,
            layer=known.layer,
            layer_source=known.layer_source,
            values=known.values,
        )
    preset = preset_for(None, files.architecture.family, files.widths)
    chosen = preset.layer if layer is None else layer
    if not 0 <= chosen < files.widths.n_layers:
        raise StudyError(
            f"--layer {chosen}: {files.source} has layers 0 to {files.widths.n_layers - 1}."
        )
    source = preset.source if chosen == preset.layer else "command line"
    return ModelOrder(
        spec=spec, model_id=model_id, layer=chosen, layer_source=source, values=preset.values
    )
