"""The forecast of one edit, at one layer or at many, from the command line or a notebook."""

from collections.abc import Iterable, Sequence

import torch

from editcollapse.applying import position_row
from editcollapse.bounds import LayerGeometry
from editcollapse.edit_setups import EditSetup
from editcollapse.errors import ModelError
from editcollapse.forecasting import forecast_edits, forecast_rows
from editcollapse.models import LoadedModel
from editcollapse.outcomes import ForecastRow, PositionRow
from editcollapse.rewrites import build_rewrite
from editcollapse.sites import EditSite
from editcollapse.sweeping import read_layer_keys
from editcollapse.tokens import UnusableTextError
from editcollapse.verdicts import (
    ForecastReport,
    ModelThresholds,
    RequestForecast,
    Thresholds,
    judged,
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
