"""Recording: row files into the results database, in the flow's own process."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from editcollapse.artifacts import ArtifactRef
from editcollapse.orders import RecordOrder
from editcollapse.places import place_of
from editcollapse.retrying import DELAYS_S, RETRIES, may_pass
from storage.rows import RowsFile
from storage.sharing import publish, take_in
from storage.writer import unrecorded


@task(
    name="record",
    task_run_name="record {order.label}",
    description="Enter rows into the results database; files that it has already are passed over.",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=RETRIES,
    retry_delay_seconds=list(DELAYS_S),
    retry_condition_fn=may_pass,
)
def record_rows(order: RecordOrder) -> int:
    """Return the number of rows entered."""
    place = place_of(order.results)
    n_rows = take_in(place, [_rows_file(ref) for ref in order.rows]).n_rows
    if order.publish:
        publish(place)
    return n_rows


def is_recorded(order: RecordOrder) -> bool:
    """Return whether the database holds every row file of the order."""
    here = place_of(order.results).here
    return not unrecorded(here, [_rows_file(ref) for ref in order.rows])


def _rows_file(ref: ArtifactRef) -> RowsFile:
    return RowsFile(str(ref.table), Path(ref.path), ref.digest)
