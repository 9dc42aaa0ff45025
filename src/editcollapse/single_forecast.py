"""The forecast of one edit, from the command line or a notebook."""

from editcollapse.bounds import LayerGeometry
from editcollapse.edit_setups import EditSetup
from editcollapse.errors import ModelError
from editcollapse.forecasting import forecast_edits
from editcollapse.models import LoadedModel
from editcollapse.sites import EditSite
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
    (request,) = setup.edits.requests
    one = RequestForecast(
        model=name,
        layer=setup.edits.model.layer,
        subject=request.subject,
        prompt=request.prompt,
        target_new=request.target_new,
        position=position,
        methods=judged(found.rows, position, thresholds),
    )
    basis = ModelThresholds(name, thresholds, f"{setup.summary}; {thresholds.basis}")
    return ForecastReport((basis,), (one,))
