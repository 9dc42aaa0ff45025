"""Recording: row files into the results database, in the flow's own process."""

import time
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from editcollapse.artifacts import ArtifactRef
from editcollapse.orders import RecordOrder
from storage.database import SNAPSHOT, publish_snapshot
from storage.rows import RowsFile
from storage.writer import ingest, unrecorded

_PUBLISH_EVERY_S = 60.0
"""Seconds between snapshots while a study runs; the report publishes the last one."""


@task(
    name="record",
    task_run_name="record {order.label}",
    description="Enter rows into the results database; files that it has already are passed over.",
    cache_policy=NO_CACHE,
)
def record_rows(order: RecordOrder) -> int:
    """Return the number of rows entered; readers of a long study see them within minutes."""
    results = Path(order.results)
    n_rows = ingest(results, [_rows_file(ref) for ref in order.rows]).n_rows
    if _snapshot_age_s(results) > _PUBLISH_EVERY_S:
        publish_snapshot(results)
    return n_rows


def _snapshot_age_s(results: Path) -> float:
    try:
        return time.time() - (results / SNAPSHOT).stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def is_recorded(order: RecordOrder) -> bool:
    """Return whether the database holds every row file of the order."""
    return not unrecorded(Path(order.results), [_rows_file(ref) for ref in order.rows])


def _rows_file(ref: ArtifactRef) -> RowsFile:
    return RowsFile(str(ref.table), Path(ref.path), ref.digest)
