"""Layer and v* settings for models that have no published ones: trials by successive halving.

A trial's edits and evaluations are the cached jobs of any study, so a killed tuning goes on where
it stopped. Scores are taken from their row files; nothing is asked of the database.
"""

from pathlib import Path

from prefect import State, flow

from editcollapse.config.study_file import with_absolute_paths
from editcollapse.study.jobs import Manifest
from editcollapse.study.plan import ModelPlan, plan_study
from editcollapse.study.study_rows import study_rows
from editcollapse.study.tuning import ModelTuning, TuningReportJob, TuningSpec, plan_tuning
from flows.observe.run_names import dated
from flows.run.covariance_steps import measured_moments
from flows.run.outcome import completed
from flows.run.steps import TEMPLATES, UNEDITED, Step, moment_jobs
from flows.run.study_form import StudyForm
from flows.run.study_run import StudyRun, do_and_publish
from flows.run.submit import one_at_a_time, started
from flows.run.trial_steps import Budget, Halving, n_trial_jobs
from reports.tuning import tuning_headline
from storage.readers import tuning_trials
from tasks.preparing import context_templates, unedited_model
from tasks.tuning import publish_tuning, tuning_facts

_DESCRIBING = {"datasets", "requests", "rejections", "evaluations", "value_settings"}
"""Of the rows that describe a study, those that a tuning has: it is no study of its facts."""


@flow(
    name="tune-settings",
    flow_run_name=dated("tune {study.name}"),
    description="Find the layer and the v* settings that edit a model well, and harm it least.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def tune_settings(
    study: StudyForm, tuning: TuningSpec | None = None, results: str = "results"
) -> State[list[str]]:
    """Tune each model of a study on the facts that it knows.

    Args:
        study: models, facts, and how C and perplexity are measured; paths are absolute, or relative
            to the working directory. Its methods do not matter: C-ROME is tuned.
        tuning: how much is tried; left out, the defaults.
        results: folder or URL that everything is written to.

    Returns:
        A state with the tuning of each model, which is what a call of the flow returns: ids of
        ``tuning_trials``.

    Raises:
        EditCollapseError: an input is missing or unusable, or a model knows too few of the facts.
    """
    plan = plan_study(with_absolute_paths(study, Path.cwd()), results)
    spec = tuning or TuningSpec()
    tunings = plan_tuning(plan, spec)
    of_model = {each.model.setup.spec.name: each for each in tunings}

    def own(model: ModelPlan) -> ModelTuning:
        return of_model[model.setup.spec.name]

    steps = (
        TEMPLATES,
        Step(lambda _plan, model: moment_jobs(own(model).sweep.covariance_plans())),
        UNEDITED,
        Step(lambda _plan, _model: 1),
        Step(lambda _plan, model: n_trial_jobs(own(model), spec.facts)),
    )
    run = StudyRun(plan, steps, n_last=len(tunings))
    rows = [each for each in study_rows(plan) if each[0] in _DESCRIBING]
    run.rows.add([run.store.put_rows(table, those) for table, those in rows])
    budget = Budget(spec.budget_minutes)
    do_and_publish(run, "tuning", lambda model: _tune(run, own(model), budget))
    said = []
    for each in tunings:
        job = TuningReportJob.of(each, run.rows.digest)
        started(publish_tuning, job)()
        run.listed.finish_one()
        said.append(tuning_headline(tuning_trials(run.store.here, each.tuning_id)))
    return completed([each.tuning_id for each in tunings], " ".join(said), run.tally)


def _tune(run: StudyRun, tuning: ModelTuning, budget: Budget) -> None:
    """Prepare one model at every layer that is tried, part its facts, and try settings on them."""
    templates = run.compute(context_templates, tuning.model.templates)
    moments = measured_moments(run, tuning.sweep.covariance_plans(), templates)
    unedited = run.compute(unedited_model, run.plan.unedited_job(tuning.model))
    facts = run.compute(tuning_facts, tuning.facts_job())
    prepared: list[Manifest] = [templates, *moments, unedited, facts]
    run.rows.add([ref for each in prepared for ref in each.rows])
    Halving(run, tuning, templates, moments, unedited, facts, budget).run()
