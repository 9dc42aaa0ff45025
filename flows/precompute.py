"""The second moments of a study's models, and nothing else: what a night before a study can do.

The units are those of the study, with the same keys: it finds them, and starts with its edits.
"""

from pathlib import Path

from prefect import flow

from editcollapse.config.spec import StudySpec
from editcollapse.config.study_file import with_absolute_paths
from editcollapse.study.plan import plan_study
from flows.run.steps import PREPARE
from flows.run.study_run import StudyRun, do_and_publish
from flows.run.submit import one_at_a_time


@flow(
    name="precompute-covariance",
    flow_run_name="covariance {study.name}",
    description="Measure the second moments that a study's edits will need.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def precompute_covariance(study: StudySpec, results: str = "results") -> list[str]:
    """Measure the second moment of each model and layer; return their ids.

    Args:
        study: whose models, corpus and templates count; paths are absolute, or relative to the
            working directory.
        results: folder or URL that everything is written to.

    Raises:
        EditCollapseError: an input is missing or unusable.
    """
    plan = plan_study(with_absolute_paths(study, Path.cwd()), results)
    run = StudyRun(plan, PREPARE, n_last=0)
    do_and_publish(run, "covariance", run.prepare)
    return [model.moment.covariance_id for model in plan.models]
