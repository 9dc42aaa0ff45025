"""Reporting: the published snapshot, and the study's HTML report made from it."""

from prefect import task
from prefect.cache_policies import CacheKeyFnPolicy

from editcollapse.orders import ReportOrder, order_key
from editcollapse.places import place_of
from reports.page import has_report, write_report
from storage.sharing import publish
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
    place = place_of(order.results)
    publish(place)
    return write_report(place, order.study_id)


def is_published(order: ReportOrder) -> bool:
    """Return whether snapshot and report are there, whole, and hold all that is recorded."""
    place = place_of(order.results)
    has_page = has_report(place, order.study_name, order.study_id)
    return has_page and snapshot_is_current(place.here)
