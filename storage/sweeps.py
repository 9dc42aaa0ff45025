"""Read a layer sweep from the published results."""

from pathlib import Path

import polars as pl

from editcollapse.forecast.verdicts import LayerVerdicts
from editcollapse.study.jobs import template_set_id_of
from editcollapse.study.sweep import ModelSweep
from storage.calibration import published
from storage.queries import query_text


def sweep_rows(results: Path, sweep: ModelSweep, templates: tuple[str, ...]) -> list[LayerVerdicts]:
    """Return what is published of one model's sweep, by layer, method and position.

    Args:
        results: the results folder.
        sweep: the model and its layers.
        templates: its context templates.

    Raises:
        ResultsError: there are no results yet.
    """
    order = sweep.layers[0].order
    records = sweep.study.requests.records
    asked = {
        "request_ids": [record.request.request_id for record in records],
        "model_id": order.model_id,
        "template_set_id": template_set_id_of(order.model_id, templates),
        "set_ups": [
            f"{each.moment.covariance_id} {each.order.settings_id}" for each in sweep.layers
        ],
    }
    with published(results) as snapshot:
        frame: pl.DataFrame = snapshot.sql(query_text("sweep"), params=asked).pl()
    return [LayerVerdicts(order.spec.name, **row) for row in frame.iter_rows(named=True)]
