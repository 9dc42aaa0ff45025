"""Jobs of free generation: what edited models answer by themselves, and who judges it; no torch.

A job answers for one batch of edits, as that batch's measurements are one job. What it asks follows
from the study's ``[evaluation.generation]``; edits and their measurements know nothing of it.
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import polars as pl
from pydantic import BaseModel, ConfigDict

from editcollapse.catalog.methods import distinct_rules
from editcollapse.config.generation import GenerationSpec, JudgeSpec
from editcollapse.data.requests import EditRequest
from editcollapse.fingerprints import digest, unit_key
from editcollapse.rows.generation import GenerationSettingsRow
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import EditJob, Job, Manifest, ModelSetup
from editcollapse.study.locks import cached_manifest
from editcollapse.study.model_editors import ModelEditors
from editcollapse.study.plan import ModelPlan, StudyPlan
from editcollapse.study.sequence_jobs import EditorBatchJob


class EditToAnswer(BaseModel):
    """One edit whose model is asked."""

    model_config = ConfigDict(frozen=True)

    edit_id: str
    request_id: str
    update_row: int
    """Row of its update in the batch's tensors. Index from 0."""
    method: str | None
    """Name that a rank-one update has in the file: methods with equal rules are stored once; None
    of an editor beyond rank one, whose file has factors by layer."""


class AnswersJob(Job):
    """Let the edited models of one batch, and the unedited one, answer freely."""

    model: ModelSetup
    generation: GenerationSpec
    requests: tuple[EditRequest, ...]
    edits: tuple[EditToAnswer, ...]
    updates: ArtifactRef
    """Tensor file of the batch."""
    batch_label: str
    """For people: ``3 of 12``; not part of the key."""

    @property
    def generation_id(self) -> str:
        """Digest of how answers are generated, whatever is asked."""
        return generation_id_of(self.generation)

    @property
    def key(self) -> str:
        """Cache key of the job."""
        spec = self.generation
        followed = "portability" in spec.probes
        return unit_key(
            "answers",
            self.model.model_id,
            self.model.layer,
            self.updates.digest,
            [(each.edit_id, each.method, each.update_row) for each in self.edits],
            [
                (
                    each.request_id,
                    *((each.portability_prompts, each.portability_targets) if followed else ()),
                )
                for each in self.requests
            ],
            self.generation_id,
            (spec.contexts, spec.probes, spec.max_prompts),
        )

    @property
    def label(self) -> str:
        """For people: model, how many edits, and place in the study."""
        return f"{self.model.spec.name}, {len(self.edits)} edits, batch {self.batch_label}"

    @property
    def settings_row(self) -> GenerationSettingsRow:
        """How answers are generated, as a row."""
        spec = self.generation
        return GenerationSettingsRow(
            generation_id=self.generation_id,
            n_tokens=spec.n_tokens,
            stops=" ".join(map(repr, spec.stops)),
            fluency_tokens=spec.fluency_tokens,
        )


def generation_id_of(spec: GenerationSpec) -> str:
    """Return the id of how answers are generated: lengths and stop strings."""
    return digest("generation", spec.n_tokens, spec.stops, spec.fluency_tokens)


class JudgeJob(Job):
    """Ask a judge about the answers of one batch."""

    needs_device: ClassVar[bool] = False

    judge: JudgeSpec
    answers: tuple[ArtifactRef, ...]
    """Row files of table ``generated_answers``."""
    earlier: tuple[ArtifactRef, ...] = ()
    """Row files of table ``judged_answers`` that jobs have left in which the judge failed; what it
    has replied to there is not asked again."""
    label: str
    """For people; not part of the key."""

    @property
    def judge_id(self) -> str:
        """Digest of who judges, by name, and what it is asked; not of where it answers."""
        return digest("judge", self.judge.model, self.judge.asked_with)

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key(
            "judged",
            self.judge_id,
            [ref.digest for ref in self.answers],
            [ref.digest for ref in self.earlier],
        )


@dataclasses.dataclass(frozen=True)
class ModelAnswers:
    """The jobs of free answers of one model of a study."""

    plan: StudyPlan
    model: ModelPlan

    @property
    def generation(self) -> GenerationSpec | None:
        """What the study asks for; None where it asks for nothing."""
        return self.plan.study.evaluation.generation

    @cached_property
    def n_batches(self) -> int:
        """Batches that have a request whose edits are asked."""
        spec = self.generation
        if spec is None:
            return 0
        n_requests = len(self.plan.requests.records)
        asked = n_requests if spec.limit is None else min(spec.limit, n_requests)
        return -(-asked // self.plan.study.batch_size)

    @property
    def n_jobs(self) -> int:
        """Jobs that are known before any of them runs, the judge's included.

        Behind a guard a batch of rank-one edits counts as one.
        """
        setups = ModelEditors(self.plan, self.model).setups if self.n_batches else ()
        single = self.plan.study.single_editors
        kept = [each for each in setups if each.name in single and not each.is_dense]
        n_each = 1 if self.plan.study.evaluation.judge is None else 2
        return n_each * self.n_batches * (bool(self.plan.study.rank_one_methods) + len(kept))

    def job(self, batch: EditJob | EditorBatchJob, done: Manifest) -> AnswersJob | None:
        """Return the job of a batch's answers; None where none of its edits is asked.

        An editor whose updates are of full rank keeps no factors, so that its edits cannot be
        asked afterwards.

        Args:
            batch: the edits.
            done: what its unit returned.

        Raises:
            ArtifactError: a row file is missing or has changed.
        """
        spec = self.generation
        if spec is None or done.tensors is None:
            return None
        model = batch.model if isinstance(batch, EditJob) else batch.inputs.model
        asked = [each for each in batch.requests if self._is_asked(each)]
        ids = {each.request_id for each in asked}
        stored = distinct_rules(batch.methods) if isinstance(batch, EditJob) else {}
        rows = [row for row in _edit_rows(batch.results, done) if row.request_id in ids]
        if not rows:
            return None
        return AnswersJob(
            results=batch.results,
            model=model,
            generation=spec,
            requests=tuple(dict.fromkeys(asked)),
            edits=tuple(
                EditToAnswer(
                    edit_id=row.edit_id,
                    request_id=row.request_id,
                    update_row=row.update_row,
                    method=stored.get(row.method),
                )
                for row in rows
            ),
            updates=done.tensors,
            batch_label=batch.batch_label,
        )

    def judge_job(self, job: AnswersJob, done: Manifest) -> JudgeJob | None:
        """Return the job that judges a batch's answers; None where the study has no judge.

        Where the judge has failed before, a job that asks again what it left open.

        Args:
            job: the answers.
            done: what its unit returned.
        """
        judge = self.plan.study.evaluation.judge
        if judge is None:
            return None
        found = JudgeJob(
            results=job.results,
            judge=judge,
            answers=tuple(ref for ref in done.rows if ref.table == "generated_answers"),
            label=job.label,
        )
        while True:
            cached = cached_manifest(found)
            if cached is None or not cached.values:
                return found
            left = tuple(ref for ref in cached.rows if ref.table == "judged_answers")
            found = found.model_copy(update={"earlier": (*found.earlier, *left)})

    @cached_property
    def _asked(self) -> tuple[EditRequest, ...] | None:
        """The requests whose edits are asked; None for all."""
        spec = self.generation
        if spec is None or spec.limit is None:
            return None
        return tuple(record.request for record in self.plan.requests.records[: spec.limit])

    def _is_asked(self, request: EditRequest) -> bool:
        """Return whether a request's edits are asked, a text before its prompt or none."""
        return self._asked is None or any(
            (request.subject, request.target_new) == (each.subject, each.target_new)
            and request.prompt.endswith(each.prompt)
            for each in self._asked
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _EditRow:
    """What is read of a row of table ``edits``."""

    edit_id: str
    request_id: str
    method: str
    update_row: int


def _edit_rows(results: str, done: Manifest) -> Sequence[_EditRow]:
    """Return the edits of a manifest that have an update."""
    store = ArtifactStore(results)
    names = [field.name for field in dataclasses.fields(_EditRow)]
    refs = [ref for ref in done.rows if ref.table == "edits"]
    if not refs:
        return ()
    frame = pl.concat(store.frame(ref).select(names) for ref in refs)
    frame = frame.filter(pl.col("update_row").is_not_null())
    return [_EditRow(**row) for row in frame.iter_rows(named=True)]
