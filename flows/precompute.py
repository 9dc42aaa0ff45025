"""The second moments of a study's models, and nothing else: what a night before a study can do.

The units are those of the study, with the same keys: it finds them, and starts with its edits.
"""

from pathlib import Path

from prefect import State, flow

from editcollapse.config.study_file import with_absolute_paths
from editcollapse.study.jobs import Manifest
from editcollapse.study.plan import ModelPlan, plan_study
from flows.observe.run_names import dated
from flows.run.outcome import completed
from flows.run.steps import PREPARE
from flows.run.study_form import StudyForm
from flows.run.study_run import StudyRun, do_and_publish
from flows.run.submit import one_at_a_time


@flow(
    name="precompute-covariance",
    flow_run_name=dated("covariance {study.name}"),
    description="Measure the second moments that a study's edits will need.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def precompute_covariance(study: StudyForm, results: str = "results") -> State[list[str]]:
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
    moments: list[Manifest] = []

    def measure(model: ModelPlan) -> None:
        moments.extend(run.prepare(model)[1])

    do_and_publish(run, "covariance", measure)
    ids = [model.moment.covariance_id for model in plan.models]
    return completed(ids, measured(moments), run.tally)


def measured(moments: list[Manifest]) -> str:
    """Return what each second moment was measured on."""
    return f"Second moments: {'; '.join(moment.summary for moment in moments)}."
