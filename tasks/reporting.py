"""Reporting: the published snapshot, and the study's HTML report made from it."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import CacheKeyFnPolicy

from editcollapse.orders import ReportOrder, order_key
from reports.page import has_report, write_report
from storage.database import publish_snapshot
from storage.writer import snapshot_is_current


@task(
    name="report",
    task_run_name="report {order.study_name}",
    description="Publish results.duckdb and write the study's HTML report.",
    cache_policy=CacheKeyFnPolicy(cache_key_fn=order_key),
    persist_result=True,
    result_serializer="json",
)
def publish_report(order: ReportOrder) -> str:
    """Return the report's path below the results folder."""
    results = Path(order.results)
    publish_snapshot(results)
    return write_report(results, order.study_id).relative_to(results).as_posix()


def is_published(order: ReportOrder) -> bool:
    """Return whether snapshot and report are there, whole, and hold all that is recorded."""
    results = Path(order.results)
    return has_report(results, order.study_name, order.study_id) and snapshot_is_current(results)
