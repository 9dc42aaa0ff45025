"""One edit without a study: its forecast, at one layer or at many, its v* and updates.

What it needs, layer, v* settings, context templates and C, is given or found here first.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import torch

from editcollapse.catalog.methods import METHODS
from editcollapse.config.spec import CovarianceSpec, TemplateSpec
from editcollapse.covariance.second_moment import MomentSolver, SecondMoment, measure_moments
from editcollapse.data.corpora import open_corpus
from editcollapse.data.requests import EditRequest
from editcollapse.errors import ModelError
from editcollapse.fingerprints import digest
from editcollapse.forecast.bounds import LayerGeometry
from editcollapse.forecast.verdicts import (
    ForecastReport,
    ModelThresholds,
    RequestForecast,
    Thresholds,
    judged,
)
from editcollapse.forward.hooked_layer import EditSite
from editcollapse.forward.rewrites import build_rewrite
from editcollapse.models.loading import LoadedModel
from editcollapse.models.tokenization import UnusableTextError
from editcollapse.rome.templates import generate_templates
from editcollapse.rows.study import ForecastRow, PositionRow
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import EditOrder, KnownSetup, ModelOrder, template_set_id_of
from editcollapse.study.known_setup import moment_ref
from editcollapse.units.edit import position_row
from editcollapse.units.forecast import forecast_edits, forecast_rows
from editcollapse.units.sweep import read_layer_keys


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EditSetup:
    """One request, ready to be forecast."""

    edits: EditOrder
    """A batch of one, with all methods."""
    solver: MomentSolver
    summary: str
    """For people."""


def known_edit(
    results: str, model: ModelOrder, known: KnownSetup, request: EditRequest
) -> EditSetup:
    """Return a request as a study in a results folder would edit it.

    Args:
        results: path or URL of the folder.
        model: layer and v* settings of ``known``.
        known: what the database says.
        request: the edit.

    Raises:
        ArtifactError: C's file is missing or has changed.
        MomentError: C has no Cholesky factor.
    """
    store = ArtifactStore(results)
    ref = None if known.moment_digest is None else moment_ref(store, known.moment_digest)
    solver = MomentSolver(None if ref is None else store.tensors(ref)["moment"], known.damping)
    edits = _batch_of_one(results, model, known.templates, known.covariance_id, request)
    return EditSetup(edits, solver, str(known))


def new_edit(
    loaded: LoadedModel,
    model: ModelOrder,
    covariance: CovarianceSpec,
    templates: TemplateSpec,
    seed: int,
    request: EditRequest,
) -> EditSetup:
    """Return a request with templates drawn and C measured here and now: ``new_edits`` of one."""
    (found,) = new_edits(loaded, (model,), covariance, templates, seed, request)
    return found


def new_edits(
    loaded: LoadedModel,
    models: Sequence[ModelOrder],
    covariance: CovarianceSpec,
    templates: TemplateSpec,
    seed: int,
    request: EditRequest,
) -> Iterator[EditSetup]:
    """Yield a request at some layers, with C of all from one pass; nothing is stored.

    The templates are drawn once, and one C is factored at a time.

    Args:
        loaded: the model.
        models: layers and v* settings; the same model.
        covariance: the identity, or a corpus.
        templates: how they are drawn.
        seed: of the draws.
        request: the edit.

    Raises:
        DatasetError: the corpus cannot be read.
        MomentError: the corpus has no tokens, or C has no Cholesky factor.
    """
    drawn = generate_templates(loaded, templates.kind, templates.lengths, seed)
    moments: list[SecondMoment | None] = [None] * len(models)
    what = "identity covariance"
    if covariance.kind == "corpus":
        corpus = open_corpus(str(covariance.source), text_field=covariance.text_field)
        layers = [model.layer for model in models]
        found = measure_moments(
            loaded,
            layers,
            corpus.documents(),
            n_tokens=covariance.n_tokens,
            max_length=covariance.max_length,
            tokens_per_batch=tokens_per_forward(loaded.device, loaded.size(max(layers)), "moment"),
        )
        moments, what = [*found], f"covariance of {found[0].n_tokens} tokens of {corpus.name}"
    covariance_id = digest("unstored covariance", covariance)
    n_templates = len(drawn.templates)
    for model, moment in zip(models, moments, strict=True):
        solver = MomentSolver(None if moment is None else moment.matrix, covariance.damping)
        edits = _batch_of_one("", model, drawn.templates, covariance_id, request)
        where = f"layer {model.layer} ({model.layer_source})"
        summary = f"{where}, {what}, {n_templates} templates drawn"
        yield EditSetup(edits, solver, f"{summary}, clamp factor {model.values.clamp_factor:g}")


def _batch_of_one(
    results: str,
    model: ModelOrder,
    templates: tuple[str, ...],
    covariance_id: str,
    request: EditRequest,
) -> EditOrder:
    return EditOrder(
        results=results,
        model=model,
        methods=tuple(METHODS),
        templates=templates,
        template_set_id=template_set_id_of(model.model_id, templates),
        covariance_id=covariance_id,
        damping=0.0,  # the solver has it
        moment=None,
        requests=(request,),
        batch_index=0,
        batch_label="1 of 1",
    )


def forecast_one(
    loaded: LoadedModel, name: str, setup: EditSetup, thresholds: Thresholds
) -> ForecastReport:
    """Return the forecast of one edit by every method, with verdicts.

    Args:
        loaded: the model.
        name: what to call it.
        setup: the request, with layer, templates and C.
        thresholds: of a calibration.

    Raises:
        ModelError: the model cannot take the request.
    """
    site = EditSite(loaded, setup.edits.model.layer)
    found = forecast_edits(loaded, LayerGeometry.of(site, setup.solver), setup.edits)
    if found.unusable:
        raise ModelError(f"{name} cannot take this edit: {found.unusable[0].reason}.")
    (position,) = found.positions
    one = _told(name, setup, position, found.rows, thresholds)
    return ForecastReport((_basis(name, setup.summary, thresholds),), (one,))


def sweep_one(
    loaded: LoadedModel,
    name: str,
    layers: Sequence[int],
    setups: Iterable[EditSetup],
    thresholds: Thresholds,
) -> ForecastReport:
    """Return the forecast of one edit at some layers by every method, from one forward.

    Args:
        loaded: the model.
        name: what to call it.
        layers: zero-based blocks.
        setups: the request at each of them, with the same templates; taken one at a time.
        thresholds: of a calibration.

    Raises:
        ModelError: the model cannot take the request.
    """
    keys, rewrites, found, basis = [], [], [], ""
    for place, setup in enumerate(setups):
        edits = setup.edits
        if place == 0:
            basis = f"{setup.summary}, and other layers likewise"
            try:
                rewrites = [build_rewrite(loaded.encoder, edits.templates, edits.requests[0])]
            except UnusableTextError as error:
                raise ModelError(f"{name} cannot take this edit: {error}.") from error
            keys = read_layer_keys(loaded, layers, rewrites)
        site = EditSite(loaded, edits.model.layer)
        with torch.no_grad():
            facts = keys[place].facts(loaded, site.layer)
        rows = forecast_rows(edits, rewrites, facts, LayerGeometry.of(site, setup.solver))
        position = position_row(edits.model.model_id, rewrites[0])
        found.append(_told(name, setup, position, rows, thresholds))
    return ForecastReport((_basis(name, basis, thresholds),), tuple(found))


def _basis(name: str, summary: str, thresholds: Thresholds) -> ModelThresholds:
    """Return what the verdicts rest on: the set-up in words, and the thresholds."""
    return ModelThresholds(name, thresholds, f"{summary}; {thresholds.basis}")


def _told(
    name: str,
    setup: EditSetup,
    position: PositionRow,
    rows: Sequence[ForecastRow],
    thresholds: Thresholds,
) -> RequestForecast:
    """Return the verdicts on one request at one layer."""
    (request,) = setup.edits.requests
    return RequestForecast(
        model=name,
        layer=setup.edits.model.layer,
        subject=request.subject,
        prompt=request.prompt,
        target_new=request.target_new,
        position=position,
        methods=judged(rows, position, thresholds),
    )
