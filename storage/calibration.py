"""Calibrate the forecast: thresholds from the edits that were foreseen, made and measured."""

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from editcollapse import NUMERICS
from editcollapse.errors import ResultsError
from editcollapse.fingerprints import digest
from editcollapse.forecast.verdicts import Thresholds
from editcollapse.rows.study import ForecastCalibrationRow
from storage.database import SNAPSHOT, open_snapshot
from storage.queries import query_text

_THRESHOLDS = """
    select at_risk_at, collapse_at, calibration_id, n_edits, n_collapsed, is_default
    from forecast_thresholds
    where model_id = $1 or model_id is null
    order by model_id nulls last
"""
_MODELS = """
    select model_id, string_agg(distinct model, ', ' order by model) as name
    from forecast_outcomes
    group by model_id
    order by name, model_id
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What a calibration has to reach, and by which rule an edit has collapsed."""

    recall: float = 0.99
    """Share of the collapsed edits that are at risk or worse."""
    precision: float = 0.95
    """Share of those that will collapse, which did."""
    threshold: float | None = 1000.0
    """Collapsed: perplexity above this."""
    ratio: float | None = 10.0
    """Collapsed: perplexity above so many times the unedited model's."""

    def __post_init__(self) -> None:
        for name, share in (("recall", self.recall), ("precision", self.precision)):
            if not 0 < share <= 1:
                raise ResultsError(
                    f"--{name} {share:g}: it has to be a share above 0 and at most 1, such as 0.99."
                )


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """What a calibration found."""

    rows: tuple[tuple[str, ForecastCalibrationRow], ...]
    """Model by model, with what its studies call it."""
    left_out: tuple[str, ...]
    """A sentence for each model whose edits give no thresholds."""


def calibrate(results: Path, wanted: Wanted) -> Calibration:
    """Return each model's thresholds, from its published edits with forecast and measurement.

    Args:
        results: the results folder.
        wanted: what the thresholds have to reach.

    Raises:
        ResultsError: there are no results yet, or no model has enough to tell the two kinds of
            edits apart.
    """
    rows, left_out = [], []
    with published(results) as snapshot:
        for model_id, name in snapshot.execute(_MODELS).fetchall():
            answer = snapshot.sql(
                query_text("calibration"),
                params=dataclasses.asdict(wanted) | {"model_id": model_id},
            )
            values: dict[str, Any] = answer.pl().row(0, named=True)
            lacking = _lacking(values)
            if lacking:
                left_out.append(f"{name}: {lacking}")
            else:
                rows.append((name, _row(model_id, values, wanted)))
    if not rows:
        found = "; ".join(left_out) or "no edit has a forecast and a measurement"
        raise ResultsError(
            f"cannot calibrate the forecast from {results}: {found}. Forecast a study that has run "
            "and in which some edits collapse: python -m flows forecast STUDY.toml"
        )
    return Calibration(tuple(rows), tuple(left_out))


def _lacking(values: dict[str, Any]) -> str:
    """Return what keeps a model's edits from giving thresholds; empty where nothing does."""
    n_edits, n_collapsed = values["n_edits"], values["n_collapsed"]
    if not 0 < n_collapsed < n_edits:
        return (
            f"of {n_edits} edits with a forecast and a measurement {n_collapsed} collapsed, and "
            "both kinds are needed"
        )
    if not math.isfinite(values["at_risk_at"]):
        return "the edits that collapsed have no finite bound"
    return ""


def _row(model_id: str, values: dict[str, Any], wanted: Wanted) -> ForecastCalibrationRow:
    return ForecastCalibrationRow(
        calibration_id=digest("calibration", NUMERICS, model_id, values["data_digest"], wanted),
        model_id=model_id,
        calibrated_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        collapse_threshold=wanted.threshold,
        collapse_ratio=wanted.ratio,
        wanted_recall=wanted.recall,
        wanted_precision=wanted.precision,
        numerics=NUMERICS,
        **values,
    )


def thresholds(results: Path, model_id: str) -> Thresholds:
    """Return the thresholds that verdicts on a model's edits use: its own, or the default.

    Raises:
        ResultsError: there are no results yet.
    """
    with published(results) as snapshot:
        (found, *_) = snapshot.execute(_THRESHOLDS, [model_id]).fetchall()
    return Thresholds(*found)


@contextmanager
def published(results: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open what was last published. Raises ResultsError where it is older than forecasts."""
    with open_snapshot(results) as snapshot:
        try:
            yield snapshot
        except duckdb.CatalogException as error:
            raise ResultsError(
                f"{results / SNAPSHOT} was published by a version that had no forecasts. Publish "
                f"it again: python -m flows forecast STUDY.toml --results {results}"
            ) from error
