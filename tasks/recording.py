"""Recording: row files into the results database, in the flow's own process."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from editcollapse.artifacts import ArtifactRef
from editcollapse.orders import RecordOrder
from storage.database import publish_snapshot
from storage.rows import RowsFile
from storage.writer import ingest, unrecorded


@task(
    name="record",
    task_run_name="record {order.label}",
    description="Enter rows into the results database; files that it has already are passed over.",
    cache_policy=NO_CACHE,
)
def record_rows(order: RecordOrder) -> int:
    """Return the number of rows entered."""
    results = Path(order.results)
    n_rows = ingest(results, [_rows_file(ref) for ref in order.rows]).n_rows
    if order.publish:
        publish_snapshot(results)
    return n_rows


def is_recorded(order: RecordOrder) -> bool:
    """Return whether the database holds every row file of the order."""
    return not unrecorded(Path(order.results), [_rows_file(ref) for ref in order.rows])


def _rows_file(ref: ArtifactRef) -> RowsFile:
    return RowsFile(str(ref.table), Path(ref.path), ref.digest)
