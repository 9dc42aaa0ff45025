"""The tasks of the flow's own process: rows into the results database, and the report."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from editcollapse.runtime.retry import DELAYS_S, RETRIES, may_pass
from editcollapse.study.jobs import Manifest, RecordOrder, ReportOrder
from editcollapse.study.locks import leave_manifest, left_behind
from editcollapse.study.results_folder import place_of
from reports.page import has_report, write_report
from storage.publish import publish, snapshot_is_current


@task(
    name="record",
    task_run_name="record {order.label}",
    description="Publish row files; those that results.duckdb has already are passed over.",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=RETRIES,
    retry_delay_seconds=list(DELAYS_S),
    retry_condition_fn=may_pass,
)
def record_rows(order: RecordOrder) -> int:
    """Return the number of rows published."""
    return publish(place_of(order.results)).n_rows


def is_recorded(order: RecordOrder) -> bool:
    """Return whether readers see every row file of the results folder."""
    return snapshot_is_current(place_of(order.results))


@task(
    name="report",
    task_run_name="report {order.study_name}",
    description="Publish results.duckdb and write the study's HTML report.",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def publish_report(order: ReportOrder) -> Any:
    """Publish, and return the report's path below the results folder; Cached where it is current.

    The manifest says that a report of these rows was made once; snapshot and page can be another
    study's since, or gone.
    """
    left = left_behind(order)
    if left is not None and is_published(order):
        return Completed(name="Cached", data=left.summary)
    place = place_of(order.results)
    publish(place)
    path = write_report(place, order.study_id)
    leave_manifest(order, Manifest(unit_id=order.key, summary=path))
    return path


def is_published(order: ReportOrder) -> bool:
    """Return whether snapshot and report are there, whole, and have all row files."""
    place = place_of(order.results)
    has_page = has_report(place, order.study_name, order.study_id)
    return has_page and snapshot_is_current(place)
