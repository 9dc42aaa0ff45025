"""Recording: row files into the results database, in the flow's own process."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import CacheKeyFnPolicy

from editcollapse.artifacts import ArtifactRef
from editcollapse.orders import RecordOrder, order_key
from storage.rows import RowsFile
from storage.writer import ingest, unrecorded


@task(
    name="record",
    task_run_name="record {order.label}",
    description="Enter rows into the results database; files that it has already are passed over.",
    cache_policy=CacheKeyFnPolicy(cache_key_fn=order_key),
    persist_result=True,
    result_serializer="json",
    tags=["record"],
)
def record_rows(order: RecordOrder) -> int:
    """Return the number of rows entered."""
    return ingest(Path(order.results), [_rows_file(ref) for ref in order.rows]).n_rows


def is_recorded(order: RecordOrder) -> bool:
    """Return whether the database holds every row file of the order."""
    return not unrecorded(Path(order.results), [_rows_file(ref) for ref in order.rows])


def _rows_file(ref: ArtifactRef) -> RowsFile:
    return RowsFile(str(ref.table), Path(ref.path), ref.digest)
