"""Read forecasts from the published results, and how its studies edit a model."""

from pathlib import Path
from typing import Any

import polars as pl

from editcollapse.rows.frames import rows_of, schema_of
from editcollapse.rows.study import ForecastRow, PositionRow
from editcollapse.study.jobs import EditOrder, KnownSetup
from storage.calibration import published
from storage.queries import query_text


def forecast_rows(results: Path, edits: EditOrder) -> list[ForecastRow]:
    """Return the published forecasts of a batch's requests, by request and method.

    Args:
        results: the results folder.
        edits: the batch, or one of all a study's requests of a model.

    Raises:
        ResultsError: there are no results yet.
    """
    asked = {
        "model_id": edits.model.model_id,
        "layer": edits.model.layer,
        "covariance_id": edits.covariance_id,
        "template_set_id": edits.template_set_id,
        "settings_id": edits.model.settings_id,
    }
    found = _frame(results, "forecast_rows", asked)
    wanted = [request.request_id for request in edits.requests]
    frame = found.filter(pl.col("request_id").is_in(wanted))
    return list(rows_of("forecasts", frame.select(list(schema_of("forecasts")))))


def position_rows(results: Path, model_id: str) -> dict[str, PositionRow]:
    """Return request id to where its subject stands under a model's tokenizer.

    Raises:
        ResultsError: there are no results yet.
    """
    frame = _frame(results, "position_rows", {"model_id": model_id})
    rows: list[PositionRow] = list(rows_of("positions", frame.select(list(schema_of("positions")))))
    return {row.request_id: row for row in rows}


def known_setups(results: Path, model_id: str) -> list[KnownSetup]:
    """Return how the studies of a results folder edit a model; the largest C first.

    Raises:
        ResultsError: there are no results yet.
    """
    frame = _frame(results, "known_setups", {"model_id": model_id})
    return [
        KnownSetup(**{**row, "templates": tuple(row["templates"])})
        for row in frame.iter_rows(named=True)
    ]


def _frame(results: Path, query: str, asked: dict[str, Any]) -> pl.DataFrame:
    """Return the answer to a named query."""
    with published(results) as snapshot:
        frame: pl.DataFrame = snapshot.sql(query_text(query), params=asked).pl()
    return frame
