"""The tasks of the flow's own process: rows into the results database, and the report."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from editcollapse.runtime.environment import Report, tell
from editcollapse.runtime.retry import DELAYS_S, RETRIES, is_transient_failure
from editcollapse.study.jobs import Manifest, RecordJob, ReportJob
from editcollapse.study.locks import cached_manifest, store_manifest
from editcollapse.study.results_folder import results_at
from reports.index import has_index
from reports.page import has_report, write_report
from storage.publish import publish, snapshot_is_current


@task(
    name="record",
    task_run_name="record {job.label}",
    description="Publish row files; those that results.duckdb has already are passed over.",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=RETRIES,
    retry_delay_seconds=list(DELAYS_S),
    retry_condition_fn=is_transient_failure,
)
def record_rows(job: RecordJob) -> int:
    """Return the number of rows published."""
    tell(Report(f"{job.label} into the database"))
    return publish(results_at(job.results)).n_rows


def is_recorded(job: RecordJob) -> bool:
    """Return whether readers see every row file of the results folder."""
    return snapshot_is_current(results_at(job.results))


@task(
    name="report",
    task_run_name="report {job.study_name}",
    description="Publish results.duckdb and write the study's HTML report.",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def publish_report(job: ReportJob) -> Any:
    """Publish, and return the report's path below the results folder; Cached where it is current.

    The manifest says that a report of these rows was made once; snapshot and page can be another
    study's since, or by another collapse rule, or gone.
    """
    cached = cached_manifest(job)
    if cached is not None and is_published(job):
        return Completed(name="Cached", data=cached.summary)
    tell(Report(f"{job.study_name}: database and report"))
    folder = results_at(job.results)
    publish(folder)
    path = write_report(folder, job.study_id, job.rule)
    store_manifest(job, Manifest(unit_id=job.key, summary=path))
    return path


def is_published(job: ReportJob) -> bool:
    """Return whether snapshot and report are there, whole, by the rule and of all row files."""
    folder = results_at(job.results)
    has_page = has_report(folder, job.study_name, job.study_id, job.rule)
    return has_page and has_index(folder) and snapshot_is_current(folder)
