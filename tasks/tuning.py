"""Tasks of a tuning: the facts that it tries settings on, and its page."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from editcollapse.runtime.environment import Report, begun, tell
from editcollapse.study.jobs import Manifest
from editcollapse.study.locks import cached_manifest, store_manifest
from editcollapse.study.results_folder import results_at
from editcollapse.study.tuning import FactsJob, TuningReportJob
from reports.tuning import has_tuning_report, write_tuning_report
from storage.publish import publish, snapshot_is_current
from tasks.units import unit_task


@unit_task(
    name="tuning-facts",
    run_name="facts that {job.model.spec.name} knows",
    description="Ask the unedited model for facts; part those that it knows.",
)
def tuning_facts(job: FactsJob) -> Manifest:
    """Return what each fact is used for as a manifest."""
    from editcollapse.units.tuning_facts import choose_facts

    return choose_facts(job, begun(f"{job.model.spec.name}: facts that it knows", "fact"))


@task(
    name="tuning-report",
    task_run_name="report {job.name}",
    description="Publish results.duckdb and write the page of a tuning.",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def publish_tuning(job: TuningReportJob) -> Any:
    """Publish, and return the page's path below the results folder; Cached where it is current."""
    folder = results_at(job.results)
    cached = cached_manifest(job)
    is_there = has_tuning_report(folder, job.name, job.tuning_id)
    if cached is not None and is_there and snapshot_is_current(folder):
        return Completed(name="Cached", data=cached.summary)
    tell(Report(f"{job.name}: database and page"))
    publish(folder)
    path = write_tuning_report(folder, job.name, job.tuning_id, job.fact_set_id)
    store_manifest(job, Manifest(unit_id=job.key, summary=path))
    return path
