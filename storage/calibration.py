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
from editcollapse.outcomes import ForecastCalibrationRow
from editcollapse.verdicts import Thresholds
from storage.database import SNAPSHOT, open_snapshot
from storage.queries import query_text

_THRESHOLDS = """
    select at_risk_at, collapse_at, calibration_id, n_edits, n_collapsed, n_models, is_default
    from forecast_thresholds
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


def calibrate(results: Path, wanted: Wanted) -> ForecastCalibrationRow:
    """Return thresholds from all published edits that have a forecast and a measurement.

    Args:
        results: the results folder.
        wanted: what the thresholds have to reach.

    Raises:
        ResultsError: there are no results yet, or too few to tell the two kinds of edits apart.
    """
    with published(results) as snapshot:
        answer = snapshot.sql(query_text("calibration"), params=dataclasses.asdict(wanted))
        values: dict[str, Any] = answer.pl().row(0, named=True)
    n_edits, n_collapsed = values["n_edits"], values["n_collapsed"]
    if not 0 < n_collapsed < n_edits:
        raise ResultsError(
            f"cannot calibrate the forecast from {results}: of {n_edits} edits with a forecast and "
            f"a measurement {n_collapsed} collapsed, and both kinds are needed. Forecast a study "
            "that has run and in which some edits collapse: python -m flows forecast STUDY.toml"
        )
    if not math.isfinite(values["at_risk_at"]):
        raise ResultsError(
            f"cannot calibrate the forecast from {results}: the edits that collapsed have no "
            "finite bound. Run a study with more edits."
        )
    return ForecastCalibrationRow(
        calibration_id=digest("calibration", NUMERICS, values["data_digest"], wanted),
        calibrated_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        collapse_threshold=wanted.threshold,
        collapse_ratio=wanted.ratio,
        wanted_recall=wanted.recall,
        wanted_precision=wanted.precision,
        numerics=NUMERICS,
        **values,
    )


def thresholds(results: Path) -> Thresholds:
    """Return the thresholds that verdicts on published results use.

    Raises:
        ResultsError: there are no results yet.
    """
    with published(results) as snapshot:
        (found,) = snapshot.execute(_THRESHOLDS).fetchall()
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
