"""One pass through a study's plan: jobs computed or taken from the cache, rows on their way.

For each model: templates and second moment, edits and their evaluation batch by batch, texts after
the most damaging edits, free answers where they are asked for; with several models or a cluster
each has a sub-flow. Then the report.
"""

import contextlib
import dataclasses
import functools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Protocol

from prefect import Flow, State, Task, flow, tags

from editcollapse.data.requests import RequestRecord
from editcollapse.errors import EditCollapseError
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.rows.study import RejectionRow, StudyEditRow
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.generation_jobs import MostDamaging
from editcollapse.study.jobs import EditJob, Job, Manifest, RecordJob, ReportJob
from editcollapse.study.model_editors import ModelEditors
from editcollapse.study.plan import ModelPlan, StudyPlan
from editcollapse.study.study_rows import StudyKind, first_run, study_rows
from flows.observe.run_page import Part, report_link, show_findings, shown_progress
from flows.run.answer_steps import AnswersRun
from flows.run.covariance_steps import RunsJobs, measured_moments
from flows.run.events import RunEvents
from flows.run.guard_steps import guarded_jobs
from flows.run.outcome import CACHED, JobTally, completed, tell_of_collapses
from flows.run.row_buffer import RowsToRecord
from flows.run.sequence_steps import EditorRun
from flows.run.steps import ANSWERS, STUDY, TEXTS, JobList, Step
from flows.run.submit import Runner, started, tag_study, task_runner_of
from flows.run.tracking import track
from reports.headline import headline
from storage.ask import StudyFindings, findings
from tasks.editing import apply_edits
from tasks.evaluation import continue_edits, evaluate_edits
from tasks.preparing import context_templates, unedited_model
from tasks.results import is_recorded, publish_report, record_rows

logger = logging.getLogger(__name__)


class Rows(Protocol):
    """Protocol of what takes row files for the database, such as ``row_buffer.RowsToRecord``."""

    def add(self, rows: Sequence[ArtifactRef]) -> None:
        """Take more row files."""


def continue_worst(
    run: RunsJobs, rows: Rows, plan: StudyPlan, model: ModelPlan, worst: MostDamaging
) -> None:
    """Let a model go on from the prompts of its worst edits; hand the rows to the database.

    Where no edit has done damage, nothing is computed.
    """
    job = worst.job(plan.results, model.setup)
    if job is None:
        run.listed.correct(TEXTS.listed(plan, model), 0)
        return
    rows.add(run.compute(continue_edits, job).rows)


Wait = Callable[[], Manifest]
"""Waits for a job and returns its manifest."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Edits:
    """A batch that is being edited."""

    job: EditJob
    wait: Wait


@dataclasses.dataclass(frozen=True, slots=True)
class _Measured:
    """A batch that has been edited and is being measured."""

    job: EditJob
    edits: Manifest
    wait: Wait


class StudyRun:
    """One pass through a plan.

    Args:
        plan: the study with its inputs identified.
        steps: what is done for each model.
        n_last: jobs that belong to no model: the report.
        rule: when the report counts an edit as a collapse; None: as the study states it.
    """

    kind: ClassVar[StudyKind] = "study"
    """What the study is recorded as."""
    edits_singly: ClassVar[bool] = True
    """Whether single edits are made, beside sequences."""

    def __init__(
        self,
        plan: StudyPlan,
        steps: Sequence[Step] = STUDY,
        *,
        n_last: int = 1,
        rule: CollapseRule | None = None,
    ) -> None:
        self.plan = plan
        self.rule = rule or plan.study.collapse.rule
        self.store = ArtifactStore(plan.results)
        plan.store_texts(self.store)
        self.rows = RowsToRecord(plan.results, lambda task, job: started(task, job)())
        self.tally = JobTally()
        self.events = RunEvents(plan, self.rule, self.store)
        self._new: set[str] = set()
        self.is_news = False
        """Whether the report is of other rows than the last one, or by another rule."""
        self._steps = tuple(steps)
        self.listed = JobList(n_last + sum(self.n_listed(model) for model in plan.models))

    def n_listed(self, model: ModelPlan) -> int:
        """Return the number of a model's jobs that are known before any of them runs."""
        return sum(step.listed(self.plan, model) for step in self._steps)

    def correct_batch(self, n_batches: int) -> None:
        """Say that a guard has made so many batches of one; it was listed once."""
        n_jobs = sum(step.per_batch for step in self._steps)
        self.listed.correct(n_jobs, n_batches * n_jobs)

    def study_rows(self) -> list[ArtifactRef]:
        """Return the rows that describe the study itself and its first run, written."""
        described = [self.store.put_rows(table, rows) for table, rows in study_rows(self.plan)]
        return [*described, *first_run(self.plan, self.kind).rows]

    def prepare(self, model: ModelPlan) -> tuple[Manifest, Sequence[Manifest]]:
        """Return a model's templates and C of each of its layers; hand their rows to the database.

        The layers are those of ``ModelEditors``.
        """
        templates = self.compute(context_templates, model.templates)
        plans = ModelEditors(self.plan, model).covariance_plans()
        moments = measured_moments(self, plans, templates)
        self.rows.add([*templates.rows, *(ref for each in moments for ref in each.rows)])
        return templates, moments

    def edit(self, model: ModelPlan) -> None:
        """Prepare one model, then edit and measure it batch by batch.

        As many batches are edited, and as many measured, at the same time as the runner has
        workers; their rows are entered in the order of the dataset.
        """
        editors, answers = ModelEditors(self.plan, model), AnswersRun(self, model)
        templates, moments = self.prepare(model)
        unedited = self.compute(unedited_model, self.plan.unedited_job(model))
        self.rows.add(unedited.rows)
        if self.edits_singly and self.plan.study.rank_one_methods:
            moment = editors.own_moment(moments)
            self._edit_by_rank_one(model, templates, moment, unedited, answers)
        if editors.names:
            more = EditorRun(self, model, templates, moments, unedited)
            if self.edits_singly:
                more.edit_singly(answers)
            more.edit_sequences()
        if ANSWERS in self._steps:
            answers.finish()

    def _edit_by_rank_one(
        self,
        model: ModelPlan,
        templates: Manifest,
        moment: Manifest,
        unedited: Manifest,
        answers: AnswersRun,
    ) -> None:
        """Edit and measure by rank-one methods, batch by batch."""
        at_once = self.plan.study.runner.workers
        worst = MostDamaging(self.store, self.plan.study.evaluation.continuations, unedited)
        editing: deque[_Edits] = deque()
        measuring: deque[_Measured] = deque()
        for job in self.jobs(model, templates, moment):
            editing.append(_Edits(job, self.start(apply_edits, job)))
            if len(editing) == at_once:
                measuring.append(self._measure(editing.popleft()))
            if len(measuring) == at_once:
                self._enter(model, measuring.popleft(), worst, answers, unedited)
        measuring += [self._measure(edits) for edits in editing]
        for measured in measuring:
            self._enter(model, measured, worst, answers, unedited)
        continue_worst(self, self.rows, self.plan, model, worst)

    def jobs(self, model: ModelPlan, templates: Manifest, moment: Manifest) -> Iterator[EditJob]:
        """Return the jobs of the edits of one model: all that are asked for, or are let pass."""
        if model.guard is None:
            return self.plan.edit_jobs(model, templates, moment)
        return guarded_jobs(self, model.guard, model, templates, moment)

    def _measure(self, edits: _Edits) -> _Measured:
        """Wait for the edits of a batch; start to measure them."""
        done = edits.wait()
        job = self.plan.evaluate_job(edits.job, done)
        return _Measured(edits.job, done, self.start(evaluate_edits, job))

    def _enter(
        self,
        model: ModelPlan,
        measured: _Measured,
        worst: MostDamaging,
        answers: AnswersRun,
        unedited: Manifest,
    ) -> None:
        """Wait for the measurements of a batch; hand its rows to the database."""
        job, edits = measured.job, measured.edits
        done = measured.wait()
        worst.add(job, edits, done)
        answers.add(job, edits)
        unusable = dict(edits.unusable)
        members = [
            StudyEditRow(self.plan.study_id, job.edit_id(method, request.request_id))
            for method in job.methods
            for request in job.requests
            if request.request_id not in unusable
        ]
        rejected = self.rejections(model, self.plan.records_of(job.batch_index), unusable)
        self.rows.add(
            [
                *edits.rows,
                *done.rows,
                self.store.put_rows("study_edits", members),
                self.store.put_rows("rejections", rejected),
            ]
        )
        if self.is_new(done):
            rows = (*edits.rows, *done.rows)
            self.events.edits_measured(model, job.batch_index, job.requests, rows, unedited)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Publish what is computed also where the study ends with an error."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(EditCollapseError):  # the first error is the one to tell
                self.rows.publish()
            raise
        finally:
            self.events.flush()

    def compute(self, task: Task[[Any], Manifest], job: Job) -> Manifest:
        """Return a job's manifest, computed or cached."""
        (manifest,) = self.compute_all(task, [job])
        return manifest

    def compute_all(self, task: Task[[Any], Manifest], jobs: Sequence[Job]) -> list[Manifest]:
        """Return the manifests of jobs, each as ``compute``; all are submitted at once."""
        waits = [self.start(task, job) for job in jobs]
        return [wait() for wait in waits]

    def start(self, task: Task[[Any], Manifest], job: Job) -> Wait:
        """Give one job to the task runner; return what waits for its manifest."""
        ended = started(task, job.model_copy(update={"asked_by": self.plan.asker}))

        def wait() -> Manifest:
            done = ended()
            self.tally.add(was_cached=done.was_cached)
            if not done.was_cached:
                self._new.add(done.result.unit_id)
            logger.info("%s", done.result.summary)
            self.listed.finish_one()
            return done.result

        return wait

    def is_new(self, done: Manifest) -> bool:
        """Return whether a job was computed in this run, not found cached."""
        return done.unit_id in self._new

    def in_order(
        self, task: Task[[Any], Manifest], pairs: Iterable[tuple[EditJob, Job]]
    ) -> Iterator[tuple[EditJob, Manifest]]:
        """Yield jobs' manifests in order; one more than the runner has workers is started ahead.

        Args:
            task: of all units.
            pairs: a batch, which is handed on, and its job.
        """
        ahead: deque[tuple[EditJob, Wait]] = deque()
        for batch, job in pairs:
            ahead.append((batch, self.start(task, job)))
            if len(ahead) > self.plan.study.runner.workers:
                first, wait = ahead.popleft()
                yield first, wait()
        for batch, wait in ahead:
            yield batch, wait()

    def add_forecast(self, model: ModelPlan, batch: EditJob, done: Manifest) -> None:
        """Hand a forecast's rows, and the requests that the model cannot take, to the database."""
        rejected = self.rejections(
            model, self.plan.records_of(batch.batch_index), dict(done.unusable)
        )
        self.rows.add([*done.rows, self.store.put_rows("rejections", rejected)])

    def report(self) -> None:
        """Publish the snapshot and the study's tables."""
        study = self.plan.study
        job = ReportJob(
            results=self.plan.results,
            study_id=self.plan.study_id,
            study_name=study.name,
            note=study.note,
            recorded=self.rows.digest,
            rule=self.rule,
        )
        self.is_news = not started(publish_report, job)().was_cached
        self.listed.finish_one()

    def rejections(
        self, model: ModelPlan, records: Iterable[RequestRecord], unusable: dict[str, str]
    ) -> list[RejectionRow]:
        """Return the rows of those requests that a model cannot take, by id with the reason."""
        return [
            self._rejection(model, record, unusable[record.request.request_id])
            for record in records
            if record.request.request_id in unusable
        ]

    def _rejection(self, model: ModelPlan, record: RequestRecord, reason: str) -> RejectionRow:
        return RejectionRow(
            dataset_id=self.plan.requests.content_digest,
            model_id=model.setup.model_id,
            record_index=record.record_index,
            case_id=record.case_id,
            reason=reason,
        )


Work = Callable[[ModelPlan], object]


def for_each_model(run: StudyRun, work: Work, label: str, where: str | None = None) -> None:
    """Do some work for each model of a study, with the task runner that the study asks for.

    One model and the default runner need no sub-flow, which takes a second.

    Args:
        run: the pass through the study's plan.
        work: called with each model.
        label: what the work is, for the names of sub-flows: the methods.
        where: layers that the work is about; the model's own where left out.
    """
    plan = run.plan
    if len(plan.models) == 1 and plan.study.runner.kind == "thread":
        work(plan.models[0])
        return
    edit_model = _edit_model_flow(task_runner_of(plan.study.runner))
    methods = [f"method:{method}" for method in plan.study.methods]
    for model in plan.models:
        spec = model.setup.spec
        token = _present.set(functools.partial(_with_progress, run, work, model))
        try:
            with tags(f"study:{plan.study.name}", f"model:{spec.name}", *methods):
                edit_model(spec.name, where or f"layer {model.setup.layer}", label)
        finally:
            _present.reset(token)


def _with_progress(run: StudyRun, work: Work, model: ModelPlan) -> None:
    about = f"{run.plan.study.name} {model.setup.spec.name}"
    part = Part(run.listed.n_done, run.n_listed(model))
    with shown_progress("model", about, part):
        work(model)


_present: ContextVar[Callable[[], None]] = ContextVar("work of the sub-flow that runs")


def do_present_work() -> None:
    """Do what the sub-flow that runs is there for."""
    _present.get()()


def _edit_model_flow(runner: Runner) -> Flow[[str, str, str], None]:
    """Return the sub-flow of one model, with a task runner.

    Its page shows three short parameters, not a whole plan. It travels to the workers of a cluster
    with each task, which have none of these modules: so it imports what it needs when it runs.
    """

    @flow(
        name="edit-model",
        flow_run_name="{model} {where}, {label}",
        task_runner=runner,
        persist_result=False,
    )
    def edit_model(model: str, where: str, label: str) -> None:  # noqa: ARG001  shown
        """Prepare one model, then edit and measure it batch by batch."""
        # By name when it runs: a reference to this module would travel with the tasks.
        from flows.run.study_run import do_present_work

        do_present_work()

    return edit_model


def edit_and_report(
    run: StudyRun, kind: str, sentence: Callable[[StudyFindings], str] = headline
) -> State[str]:
    """Edit and measure every model of a study, publish it and show its findings.

    Args:
        run: the pass through the study's plan.
        kind: what the work is, for its progress: ``study``.
        sentence: says what the study has found, in plain text.

    Returns:
        A state that says the same, with the study's id.
    """
    plan = run.plan
    tag_study(plan)
    logger.info(CACHED)
    with shown_progress(kind, plan.study.name), run.recording():
        run.rows.add(run.study_rows())
        for_each_model(run, run.edit, ", ".join(plan.study.methods))
        run.report()
    found = findings(run.store.here, plan.study_id, run.rule)
    show_findings(plan.results, found)
    said, report = sentence(found), report_link(plan.results, plan.study.name)
    if run.is_news:
        tell_of_collapses(found, said, report)
    run.events.finish(run.kind, found, said, report, run.tally)
    track(plan, run.store.results, run.kind, found)
    return completed(plan.study_id, said, run.tally, report)


def do_and_publish(run: StudyRun, kind: str, work: Work, where: str | None = None) -> None:
    """Do a part of a study for each of its models, and publish the rows; no report is made.

    Args:
        run: the pass through the study's plan.
        kind: what the part is, for its progress and the names of sub-flows: ``covariance``.
        work: called with each model.
        where: layers that it is about; each model's own where left out.
    """
    plan = run.plan
    tag_study(plan)
    logger.info(CACHED)
    with shown_progress(kind, plan.study.name), run.recording():
        for_each_model(run, work, kind, where)
    job = RecordJob(results=plan.results, rows=())
    if not is_recorded(job):
        started(record_rows, job)()
