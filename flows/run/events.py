"""Events of a study's run: each collapse, each refusal and the end, as Prefect events with numbers.

Told is what is new to a run: edits and chunks of sequences that were measured in it, decisions of a
guard that its results folder did not hold yet. What was cached has been told by the run that
measured it. Of each kind the first ``SINGLE`` are an event each; the others are counted and told
together, so that a study of 20,000 edits does not flood a server, and nothing is left out silently.

Events leave by a thread of Prefect's own. Whatever becomes of them, a run only logs it: what they
say lies in the database.
"""

import contextlib
import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from prefect.events import emit_event
from pydantic_core import to_json

from editcollapse.data.requests import EditRequest, RequestRecord
from editcollapse.forecast.guard import Decision, Guard
from editcollapse.judging.findings import CheckFindings
from editcollapse.judging.inputs import CheckInputs
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.rows.frames import rows_of
from editcollapse.rows.sequences import SequenceCheckpointRow, SequenceStepRow
from editcollapse.rows.study import BasePerplexityRow
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import Manifest
from editcollapse.study.plan import ModelPlan, StudyPlan
from editcollapse.study.sequence_jobs import APPLIED, UNUSABLE
from editcollapse.study.sequences import ModelSequence
from editcollapse.visible import visible
from flows.run.event_payloads import (
    AboutRequest,
    AboutRun,
    CollapsedCheck,
    CollapsedEdit,
    CollapsedSequence,
    Counted,
    FinishedStudy,
    RefusedEdit,
    RefusedStep,
    ToldTogether,
)
from flows.run.outcome import JobTally
from storage.ask import StudyFindings

logger = logging.getLogger(__name__)

SINGLE = 100
"""Events of one kind that a run emits one by one, at most."""
TOGETHER = 1000
"""Of those beyond, so many are told by one event; the last ones at the run's end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """What an event says."""

    event: str
    """Name of the event of one."""
    together: str
    """Name of the event that tells of many."""


EDIT_COLLAPSED = Kind("editcollapse.edit.collapsed", "editcollapse.edits.collapsed")
EDIT_REFUSED = Kind("editcollapse.edit.refused", "editcollapse.edits.refused")
SEQUENCE_COLLAPSED = Kind("editcollapse.sequence.collapsed", "editcollapse.sequences.collapsed")
STEP_REFUSED = Kind("editcollapse.step.refused", "editcollapse.steps.refused")
STUDY_FINISHED = "editcollapse.study.finished"
CHECK_COLLAPSED = "editcollapse.check.collapsed"
KINDS = (EDIT_COLLAPSED, EDIT_REFUSED, SEQUENCE_COLLAPSED, STEP_REFUSED)


Payload = CollapsedEdit | RefusedEdit | CollapsedSequence | RefusedStep


class RunEvents:
    """What one run of a study tells.

    Args:
        plan: the study.
        rule: when an edit, or a sequence, counts as a collapse.
        store: where the row files lie.
    """

    def __init__(self, plan: StudyPlan, rule: CollapseRule, store: ArtifactStore) -> None:
        self._plan, self._rule, self._store = plan, rule, store
        self._told: Counter[Kind] = Counter()
        self._held: dict[Kind, Counter[tuple[str, str]]] = {kind: Counter() for kind in KINDS}

    def edits_measured(
        self,
        model: ModelPlan,
        batch_index: int,
        requests: Sequence[EditRequest],
        rows: Sequence[ArtifactRef],
        unedited: Manifest,
    ) -> None:
        """Tell of the collapses of a batch that was measured in this run.

        Args:
            model: the model that was edited.
            batch_index: of the batch in the dataset.
            requests: of its edits.
            rows: row files of its edits and their measurements.
            unedited: what the job of the unedited model returned.
        """
        with _logged("collapsed edits"):
            rule = self._rule
            (base,) = self._rows(unedited.rows, "base_perplexities")
            before = rule.perplexity_of(base)
            made = {row.edit_id: row for row in self._rows(rows, "edits")}
            asked = {request.request_id: request for request in requests}
            for row in self._rows(rows, "measurements"):
                perplexity = rule.perplexity_of(row)
                if not rule.collapsed(perplexity, before):
                    continue
                edit = made[row.edit_id]
                payload = CollapsedEdit(
                    about=self._about(model, edit.method),
                    request=self._request(batch_index, asked[edit.request_id]),
                    edit_id=edit.edit_id,
                    layer=edit.layer,
                    perplexity=perplexity,
                    perplexity_before=before,
                    perplexity_ratio=perplexity / before,
                    denominator=edit.denominator,
                    rho=edit.rho,
                    relative_update_norm=edit.relative_update_norm,
                    text_change=edit.text_change,
                    rule=rule,
                )
                self._tell(EDIT_COLLAPSED, f"edit.{edit.edit_id}", payload)

    def edits_refused(
        self, model: ModelPlan, batch_index: int, guard: Guard, decisions: Sequence[Decision]
    ) -> None:
        """Tell of what a guard has refused of a batch; what it has made otherwise is no refusal.

        Args:
            model: the model that would have been edited.
            batch_index: of the batch in the dataset.
            guard: the model's.
            decisions: all of the batch, made in this run.
        """
        with _logged("refused edits"):
            for decision in decisions:
                if decision.kind != "refused":
                    continue
                asked, limits = decision.asked, guard.thresholds
                payload = RefusedEdit(
                    about=self._about(model, asked.method),
                    request=self._request(batch_index, decision.request),
                    edit_id=asked.edit_id,
                    layer=asked.layer,
                    verdict=decision.verdict,
                    text_change_bound=asked.text_change_bound,
                    denominator=asked.denominator,
                    rho=asked.rho,
                    at_risk_at=limits.at_risk_at,
                    collapse_at=limits.collapse_at,
                    policy=guard.policy,
                    acts_at=guard.acts_at,
                    reason=visible(decision.reason),
                )
                self._tell(EDIT_REFUSED, f"edit.{asked.edit_id}", payload)

    def sequence_collapsed(
        self,
        model: ModelPlan,
        sequence: ModelSequence,
        checkpoint: SequenceCheckpointRow,
        base: BasePerplexityRow,
        last_alive: int,
    ) -> None:
        """Tell of the first checkpoint at which a sequence's model has collapsed.

        Args:
            model: the model that was edited.
            sequence: which one.
            checkpoint: its row of ``sequence_checkpoints``.
            base: the unedited model's row of ``base_perplexities``.
            last_alive: edits at the checkpoint before; 0 where there is none.
        """
        with _logged("a collapsed sequence"):
            perplexity = self._rule.perplexity_of(checkpoint)
            before = self._rule.perplexity_of(base)
            payload = CollapsedSequence(
                about=self._about(model, sequence.inputs.editor.name),
                sequence_id=sequence.sequence_id,
                order_seed=sequence.order_seed,
                edits_per_step=sequence.edits_per_step,
                n_edits=checkpoint.n_edits,
                last_alive=last_alive,
                perplexity=perplexity,
                perplexity_before=before,
                perplexity_ratio=perplexity / before,
                rule=self._rule,
            )
            self._tell(SEQUENCE_COLLAPSED, f"sequence.{sequence.sequence_id}", payload)

    def steps_made(self, model: ModelPlan, sequence: ModelSequence, done: Manifest) -> None:
        """Tell of the steps of a chunk that was computed in this run and that a guard has undone.

        Args:
            model: the model that was edited.
            sequence: which one.
            done: what the chunk's job returned.
        """
        if sequence.spec.guard is None:
            return
        with _logged("refused steps"):
            for row in self._rows(done.rows, "sequence_steps"):
                if row.decision not in {APPLIED, UNUSABLE}:
                    self._refused_step(model, sequence, row)

    def finish(
        self, kind: str, found: StudyFindings, headline: str, report: str, jobs: JobTally
    ) -> None:
        """Tell that a study's run has ended well; also where all of it was cached.

        Args:
            kind: what it was run as.
            found: the study as it is published.
            headline: its sentence.
            report: address of its report.
            jobs: what the run had to compute.
        """
        with _logged("a finished study"):
            frame = found.incidence.frame.select("model", "method", "n_collapsed")
            collapses = tuple(Counted(*row) for row in frame.rows())
            n_collapsed = sum(each.n for each in collapses)
            payload = FinishedStudy(
                study=found.name,
                study_id=found.study_id,
                kind=kind,
                headline=visible(headline),
                report=visible(report),
                n_edits=found.n_edits,
                n_measured=found.n_measured,
                n_collapsed=n_collapsed,
                n_sequences_collapsed=int(found.sequences.frame["n_collapsed"].sum()),
                n_jobs=jobs.n_jobs,
                n_computed=jobs.n_computed,
                rule=found.rule,
                collapses=collapses,
            )
            emit_event(
                STUDY_FINISHED,
                resource={
                    "prefect.resource.id": f"editcollapse.study.{found.study_id}",
                    "prefect.resource.name": found.name,
                    "editcollapse.n_collapsed": str(n_collapsed),
                    "editcollapse.n_computed": str(jobs.n_computed),
                },
                payload=_plain(payload),
            )

    def flush(self) -> None:
        """Tell of what has been counted and not told; a run does so at its end, however it ends."""
        for kind in KINDS:
            with _logged("collapses and refusals together"):
                self._flush(kind)

    def _rows(self, refs: Sequence[ArtifactRef], table: str) -> Iterator[Any]:
        """Yield the rows of one table."""
        for ref in refs:
            if ref.table == table:
                yield from rows_of(table, self._store.frame(ref))

    def _about(self, model: ModelPlan, method: str) -> AboutRun:
        plan, setup = self._plan, model.setup
        return AboutRun(plan.study.name, plan.study_id, setup.spec.name, setup.model_id, method)

    def _request(self, batch_index: int, request: EditRequest) -> AboutRequest:
        found: dict[str, RequestRecord] = {
            each.request.request_id: each for each in reversed(self._plan.records_of(batch_index))
        }
        record = found.get(request.request_id)
        return AboutRequest(
            request_id=request.request_id,
            case_id=None if record is None else record.case_id,
            record_index=None if record is None else record.record_index,
            subject=visible(request.subject),
            prompt=visible(request.prompt),
            target_new=visible(request.target_new),
        )

    def _refused_step(
        self, model: ModelPlan, sequence: ModelSequence, row: SequenceStepRow
    ) -> None:
        guard = sequence.spec.guard
        payload = RefusedStep(
            about=self._about(model, sequence.inputs.editor.name),
            sequence_id=sequence.sequence_id,
            order_seed=sequence.order_seed,
            step=row.step,
            n_edits=row.n_edits,
            edits_per_step=sequence.edits_per_step,
            decision=row.decision,
            guard_bound=None if guard is None else guard.text_change,
        )
        self._tell(STEP_REFUSED, f"sequence.{sequence.sequence_id}", payload)

    def _tell(self, kind: Kind, resource: str, payload: Payload) -> None:
        """Emit one event, or count it where the single ones are used up."""
        self._told[kind] += 1
        about = payload.about
        if self._told[kind] > SINGLE:
            self._held[kind][about.model, about.method] += 1
            if self._held[kind].total() >= TOGETHER:
                self._flush(kind)
            return
        emit_event(
            kind.event,
            resource={
                "prefect.resource.id": f"editcollapse.{resource}",
                "prefect.resource.name": f"{about.study}: {about.method} on {about.model}",
                "editcollapse.study": about.study,
                "editcollapse.model": about.model,
                "editcollapse.method": about.method,
            },
            related=[self._study()],
            payload=_plain(payload),
        )

    def _flush(self, kind: Kind) -> None:
        held, self._held[kind] = self._held[kind], Counter()
        if not held:
            return
        counts = tuple(Counted(model, method, n) for (model, method), n in held.items())
        study, study_id = self._plan.study.name, self._plan.study_id
        payload = ToldTogether(study, study_id, held.total(), self._told[kind], counts)
        emit_event(
            kind.together,
            resource={
                "prefect.resource.id": f"editcollapse.study.{study_id}",
                "prefect.resource.name": study,
                "editcollapse.n": str(payload.n),
            },
            payload=_plain(payload),
        )

    def _study(self) -> dict[str, str]:
        """The study, as a resource that an event is related to."""
        return {
            "prefect.resource.id": f"editcollapse.study.{self._plan.study_id}",
            "prefect.resource.name": self._plan.study.name,
            "prefect.resource.role": "study",
        }


def tell_of_check(inputs: CheckInputs, found: CheckFindings, rule: CollapseRule) -> None:
    """Emit ``CHECK_COLLAPSED`` where a check that was made in this run has found a collapse.

    Args:
        inputs: of the check.
        found: as it is published.
        rule: when a model counts as collapsed.
    """
    if found.verdict(rule) != "collapsed":
        return
    with _logged("a collapsed model"):
        largest = found.largest
        before, after = (
            None if each is None else rule.perplexity_of(each)
            for each in (found.before, found.after)
        )
        payload = CollapsedCheck(
            name=visible(inputs.name),
            base=found.base,
            check_id=inputs.check_id,
            kind=found.kind,
            n_changed=len(found.changes),
            text_change=None if largest is None else largest.text_change,
            perplexity=after,
            perplexity_before=before,
            perplexity_ratio=None if before is None or after is None else after / before,
            why=visible(found.why(rule)),
            rule=rule,
        )
        emit_event(
            CHECK_COLLAPSED,
            resource={
                "prefect.resource.id": f"editcollapse.check.{inputs.check_id}",
                "prefect.resource.name": f"check of {payload.name}",
                "editcollapse.model": found.base,
            },
            payload=_plain(payload),
        )


def _plain(payload: Any) -> dict[str, Any]:
    """Return a payload as JSON: ``about`` beside the rest, and NaN and Infinity as words."""
    found: dict[str, Any] = json.loads(to_json(payload, inf_nan_mode="strings"))
    return {**found.pop("about", {}), **found}


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    """Log whatever the block raises: no event is worth a run."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  whatever the server, the way to it or a file raises
        logger.warning("no event tells of %s: %s", what, error)
