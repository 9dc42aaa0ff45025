"""Reporting: the published snapshot, and the tables that the Prefect UI shows."""

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import CacheKeyFnPolicy

from editcollapse.orders import ReportOrder, order_key
from editcollapse.places import place_of
from storage.queries import incidence
from storage.sharing import publish
from storage.writer import snapshot_is_current


@task(
    name="report",
    task_run_name="report {order.study_name}",
    description="Publish results.duckdb and show the incidence table.",
    cache_policy=CacheKeyFnPolicy(cache_key_fn=order_key),
    persist_result=True,
    result_serializer="json",
)
def publish_report(order: ReportOrder) -> int:
    """Return the number of incidence rows published."""
    place = place_of(order.results)
    publish(place)
    frame = incidence(place.here, order.study_id)
    create_table_artifact(
        key="collapse-incidence",
        table=frame.to_dicts(),
        description=f"Collapse incidence of study {order.study_name}",
    )
    query = f"select * from collapse_incidence where study_id = '{order.study_id}'"  # noqa: S608  shown
    create_markdown_artifact(
        key="ask-it-in-sql",
        markdown=f"{order.note}\n\n```sql\n{query}\n```\n",
        description=f"Study {order.study_name}: the claim, and the query behind the table",
    )
    return len(frame)


def is_published(order: ReportOrder) -> bool:
    """Return whether there is a snapshot that can be read and holds all that is recorded."""
    return snapshot_is_current(place_of(order.results).here)
