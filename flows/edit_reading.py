"""The edit that the command line names: its request, its model, and how it is set up."""

import argparse
from pathlib import Path

from pydantic import ValidationError

from editcollapse.catalog.presets import preset_for
from editcollapse.config.spec import CovarianceSpec, ModelSpec, TemplateSpec
from editcollapse.data.datasets import request_in_words
from editcollapse.data.records import RecordError
from editcollapse.data.requests import EditRequest
from editcollapse.errors import MomentError, StudyError
from editcollapse.forecast.verdicts import ForecastReport
from editcollapse.models.files import ModelFiles, digest_model, locate_model
from editcollapse.runtime.settings import settings
from editcollapse.study.jobs import KnownSetup, ModelOrder
from editcollapse.study.results_folder import place_of
from editcollapse.study.sweep import SWEPT
from flows.forecast_options import FROM_RESULTS, IDENTITY
from flows.run.guard_steps import present_thresholds, published_folder
from storage.readers import known_setups


def edit_report(options: argparse.Namespace) -> ForecastReport:
    """Return the forecast of the edit that the command line names.

    Raises:
        EditCollapseError: the model or C is missing, or the model cannot take the edit.
    """
    request = asked_request(options)
    files = locate_model(options.model, options.revision)
    spec = asked_model(options)
    model_id = digest_model(files, spec).model_id
    place = place_of(options.results)
    published, limits = published_folder(place), present_thresholds(place, model_id)
    known = None
    if options.covariance == FROM_RESULTS:
        known = known_setup(published, model_id, options)
    covariance = None if known is not None else asked_covariance(options)
    if known is not None:
        order = known_order(spec, model_id, known)
    else:
        order = preset_order(spec, model_id, files, options.layer)
    from editcollapse.models.loading import load_model
    from editcollapse.units.single import forecast_one, known_edit, new_edit

    loaded = load_model(spec, settings().device)
    if known is not None:
        setup = known_edit(place.name, order, known, request)
    else:
        assert covariance is not None
        setup = new_edit(loaded, order, covariance, TemplateSpec(), 0, request)
    return forecast_one(loaded, files.source, setup, limits)


def asked_model(options: argparse.Namespace) -> ModelSpec:
    """Return the model that the command line names."""
    return ModelSpec(
        name="edited",
        source=options.model,
        revision=options.revision,
        dtype=options.dtype,
        start_token=options.start_token,
    )


def asked_request(options: argparse.Namespace) -> EditRequest:
    """Return the edit that the command line names. Raises StudyError where it is none."""
    subject, target = options.subject.strip(), options.target.strip()
    if not subject or not target:
        raise StudyError("--subject and --target must hold a word each; one of them is blank.")
    try:
        return request_in_words(subject, options.prompt, target, "--prompt")
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
    known = all_known(published, model_id, options, instead)
    if options.layer is None:  # layers that were only swept are there for who asks for them
        chosen = [each for each in known if each.layer_source != SWEPT]
        known = chosen or known
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


def all_known(
    published: Path | None, model_id: str, options: argparse.Namespace, instead: str
) -> list[KnownSetup]:
    """Return the set-ups of all studies in the results folder that edit or sweep a model.

    Raises:
        MomentError: there is none; ``instead`` says what to do.
    """
    known = [] if published is None else known_setups(published, model_id)
    if not known:
        raise MomentError(
            f"no second moment C for {options.model} in {options.results}: no study there edits "
            f"this model with dtype {options.dtype} and start token {options.start_token!r}. "
            f"{instead}."
        )
    return known


def asked_covariance(options: argparse.Namespace) -> CovarianceSpec:
    """Return how C is measured. Raises StudyError where the numbers are out of range."""
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


def known_order(spec: ModelSpec, model_id: str, known: KnownSetup) -> ModelOrder:
    """Return layer and v* settings of a known set-up."""
    return ModelOrder(
        spec=spec,
        model_id=model_id,
        layer=known.layer,
        layer_source=known.layer_source,
        values=known.values,
    )


def preset_order(
    spec: ModelSpec, model_id: str, files: ModelFiles, layer: int | None
) -> ModelOrder:
    """Return the preset's v* settings with a layer; the preset's where left out.

    Raises:
        StudyError: the model has no such layer.
    """
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
