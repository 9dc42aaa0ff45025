"""Why ROME collapses: a study's edits, then their keys compared, cached, stored and published.

The edits and their measurements are those of the study itself, with the same keys: after a study
nothing of them is computed again, and a study finds them.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

from prefect import State, flow

from editcollapse.anatomy.encoders import absolute_source, encoder_id
from editcollapse.config.spec import CollapseSpec, StudySpec
from editcollapse.config.study_file import with_absolute_paths
from editcollapse.errors import ResultsError, StudyError
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.study.anatomy_jobs import AnatomyJob, EncoderProfilesJob, ProfilesJob
from editcollapse.study.locks import cached_manifest
from editcollapse.study.plan import ModelPlan, StudyPlan
from flows.observe.run_names import dated
from flows.run.guard_steps import plan_guarded
from flows.run.steps import STUDY, Step
from flows.run.study_form import StudyForm
from flows.run.study_run import StudyRun, edit_and_report
from flows.run.submit import one_at_a_time
from reports.headline import headline
from storage.ask import StudyFindings
from storage.readers import anatomy_findings, rome_outcomes
from tasks.anatomy import compare_keys, encoder_profiles, position_profiles

_ROME = "rome"
_ANATOMY = Step(lambda _plan, _model: 2)
"""Keys compared, profile."""


class AnatomyRun(StudyRun):
    """A pass through a study's plan that compares each model's keys once its edits are measured.

    Args:
        plan: the study; its methods contain rome.
        encoders: folders or hub ids of encoders to profile beside the models.
        rule: when an edit counts as a collapse; None: as the study states it.
    """

    def __init__(
        self, plan: StudyPlan, encoders: tuple[str, ...], rule: CollapseRule | None
    ) -> None:
        super().__init__(plan, (*STUDY, _ANATOMY), n_last=1 + len(encoders), rule=rule)
        self._encoders = [
            EncoderProfilesJob(
                results=plan.results,
                source=source,
                encoder_id=encoder_id(source),
                texts=plan.texts_ref,
            )
            for source in encoders
        ]

    def edit(self, model: ModelPlan) -> None:
        """Edit and measure one model as its study does; then compare its keys, and profile it."""
        super().edit(model)
        self.rows.publish()  # the comparison reads what became of the edits
        compared = self.compute(compare_keys, self._anatomy_job(model))
        profile = self.compute(
            position_profiles,
            ProfilesJob(results=self.plan.results, model=model.setup, texts=self.plan.texts_ref),
        )
        self.rows.add([*compared.rows, *profile.rows])

    def report(self) -> None:
        """Profile the encoders, which belong to no model of the study; then report."""
        for done in self.compute_all(encoder_profiles, self._encoders):
            self.rows.add(done.rows)
        super().report()

    def _anatomy_job(self, model: ModelPlan) -> AnatomyJob:
        """Return the comparison of all requests of a model whose edits have been entered."""
        templates, moment = cached_manifest(model.templates), cached_manifest(model.moment)
        if templates is None or moment is None:
            raise ResultsError(
                f"templates or covariance of {model.setup.spec.name} went from "
                f"{self.plan.results} while the study ran. Run the same command again."
            )
        batch = next(self.plan.edit_jobs(model, templates, moment))
        records = {each.request.request_id: each.request for each in self.plan.requests.records}
        job = AnatomyJob.of(
            self.plan.study_id,
            batch.model_copy(update={"requests": tuple(records.values())}),
            rome_outcomes(self.store.here, self.plan.study_id, model.setup, self.rule),
            self.rule,
            self.plan.study.seed,
        )
        if not job.outcomes:
            raise StudyError(
                f"no edit by rome of {model.setup.spec.name} was made as study "
                f"{self.plan.study.name!r} asked: tables rejections and guard_decisions say why. "
                "Look for the root cause in a study without a guard."
            )
        return job


def plan_anatomy(study: StudySpec, results: str, encoders: tuple[str, ...] = ()) -> StudyPlan:
    """Return the plan of a study whose root cause can be looked for; writes nothing.

    Args:
        study: with absolute paths.
        results: path or URL of the results folder.
        encoders: folders or hub ids of encoders to profile.

    Raises:
        StudyError: the study does not compare rome.
        EditCollapseError: an input is missing or unusable.
    """
    if _ROME not in study.methods:
        raise StudyError(
            f"study {study.name!r} edits by {', '.join(study.methods)}; the root cause is looked "
            'for in edits by rome. Add "rome" to its `methods`.'
        )
    for source in encoders:
        encoder_id(source)
    return plan_guarded(study, results)


@flow(
    name="collapse-anatomy",
    flow_run_name=dated("anatomy {study.name}"),
    description="Say why ROME collapses models: compare keys, numerators and denominators.",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def collapse_anatomy(
    study: StudyForm,
    results: str = "results",
    encoders: tuple[str, ...] = (),
    rule: CollapseSpec | None = None,
) -> State[str]:
    """Run a study, look for the root cause of its collapses, and return its id.

    Args:
        study: models, methods (rome among them), requests and measurements; paths are absolute, or
            relative to the working directory.
        results: folder, or URL that fsspec knows, that everything is written to.
        encoders: folders or hub ids of T5 models, whose encoders are profiled for contrast.
        rule: when an edit counts as a collapse; left out, as the study states it.

    Returns:
        A state with the study's id, which is what a call of the flow returns.

    Raises:
        EditCollapseError: an input is missing or unusable.
    """
    encoders = tuple(absolute_source(source) for source in encoders)
    plan = plan_anatomy(with_absolute_paths(study, Path.cwd()), results, encoders)
    run = AnatomyRun(plan, encoders, rule.rule if rule else None)
    return edit_and_report(run, "anatomy", functools.partial(explained, run.store.here))


def explained(results: Path, found: StudyFindings) -> str:
    """Return what a study found, and how small the denominators of its collapses are.

    Args:
        results: the results folder of this machine.
        found: the study as it is published.
    """
    return " ".join([headline(found), *_denominators(results, found)])


def _denominators(results: Path, found: StudyFindings) -> Iterator[str]:
    """Yield a sentence for each model: of its collapsed edits, else of first-token subjects."""
    rows = [
        row
        for row in anatomy_findings(results, found.study_id, found.rule)
        if row.observation == "denominator_ratio"
    ]
    for model in dict.fromkeys(row.model for row in rows):
        own = sorted(
            (row for row in rows if row.model == model), key=lambda row: row.grouping != "collapsed"
        )
        yield f"{model}: {own[0].statement}"
