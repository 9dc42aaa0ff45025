"""Sequences as jobs: an order of the requests, chunks of steps, checkpoints."""

import dataclasses
import random
from collections.abc import Iterator
from functools import cached_property

from editcollapse import NUMERICS
from editcollapse.catalog.editors import Restraint, restraint_of
from editcollapse.config.sequence import SequenceSpec
from editcollapse.data.requests import EditRequest
from editcollapse.errors import StudyError
from editcollapse.fingerprints import digest
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.rows.sequences import SequenceRow, StudySequenceRow
from editcollapse.study.artifacts import ArtifactRef
from editcollapse.study.jobs import (
    Manifest,
)
from editcollapse.study.locks import cached_manifest
from editcollapse.study.plan import StudyPlan
from editcollapse.study.sequence_jobs import (
    STOPPED,
    EditorInputs,
    SequenceChunkJob,
    SequenceGuard,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """Steps of a sequence that are one task."""

    first_step: int
    """From 1."""
    last_step: int
    is_checkpoint: bool


def n_edits_of(spec: SequenceSpec, n_requests: int, edits_per_step: int) -> int:
    """Return the edits of a sequence, if nothing ends it: as many as whole steps have.

    Raises:
        StudyError: there are not enough for one step.
    """
    n_edits = min(spec.n_edits or n_requests, n_requests)
    if n_edits < edits_per_step:
        raise StudyError(
            f"`sequence` has {edits_per_step} edits a step, and there are {n_edits}: give a "
            "smaller `edits_per_step`, a larger `n_edits` or more requests."
        )
    return n_edits - n_edits % edits_per_step


def chunks_of(spec: SequenceSpec, n_requests: int, edits_per_step: int) -> tuple[Chunk, ...]:
    """Return a sequence in tasks: none is longer than asked for, and each checkpoint ends one.

    Args:
        spec: the table of the study.
        n_requests: of the dataset.
        edits_per_step: facts that are edited at once.
    """
    n_edits = n_edits_of(spec, n_requests, edits_per_step)
    last = n_edits // edits_per_step
    measured = {-(-n // edits_per_step) for n in spec.checkpoints if n <= n_edits} | {last}
    ends = sorted({*measured, *range(spec.chunk_steps, last, spec.chunk_steps)})
    starts = [1, *(end + 1 for end in ends[:-1])]
    return tuple(
        Chunk(start, end, end in measured) for start, end in zip(starts, ends, strict=True)
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """Where a sequence stands after a chunk."""

    predecessor: str = ""
    """Key of that chunk."""
    states: tuple[ArtifactRef, ...] = ()
    rank: int = 0
    safe_states: tuple[ArtifactRef, ...] = ()
    """At the last checkpoint where the model was alive."""
    safe_rank: int = 0
    is_stopped: bool = False
    """Whether a guard has ended the sequence."""

    def after(self, done: Manifest, *, is_safe: bool) -> "Standing":
        """Return where it stands after one more chunk.

        Args:
            done: what the chunk's job returned.
            is_safe: whether it was measured and the model is alive.
        """
        rank = int(done.values[0])
        return Standing(
            predecessor=done.unit_id,
            states=done.states,
            rank=rank,
            safe_states=done.states if is_safe else self.safe_states,
            safe_rank=rank if is_safe else self.safe_rank,
            is_stopped=STOPPED in done.values[1:],
        )


@dataclasses.dataclass(frozen=True)
class ModelSequence:
    """One model, one editor, one order of the requests."""

    plan: StudyPlan
    spec: SequenceSpec
    inputs: EditorInputs
    order: int
    """From 0."""
    edits_per_step: int
    asked_restraint: Restraint = "none"
    """Of the study; an editor's own stands where it asks for none."""

    @property
    def restraint(self) -> Restraint:
        """What the measured model has of the sum of updates."""
        return restraint_of(self.inputs.editor.name, self.asked_restraint)

    @property
    def order_seed(self) -> int:
        """Seed of the order."""
        return self.plan.study.seed + self.order

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.inputs.editor.title}, {self._order_label}"

    @property
    def _order_label(self) -> str:
        many = f", {self.edits_per_step} a step" if self.edits_per_step > 1 else ""
        how = "" if self.asked_restraint == "none" else f", restraint {self.asked_restraint}"
        return f"order {self.order + 1}{many}{how}"

    @cached_property
    def requests(self) -> tuple[EditRequest, ...]:
        """All requests of the dataset in this order."""
        requests = [record.request for record in self.plan.requests.records]
        random.Random(f"order {self.order_seed}").shuffle(requests)
        return tuple(requests)

    @property
    def _rule_that_counts(self) -> tuple[CollapseRule, ...]:
        """The rule of collapse where steps depend on it: a guard goes back to where it held."""
        guard = self.spec.guard
        rolls_back = guard is not None and guard.policy == "roll back"
        return (self.plan.study.collapse.rule,) if rolls_back else ()

    @property
    def n_edits(self) -> int:
        """Edits of the sequence, if nothing ends it."""
        return n_edits_of(self.spec, len(self.requests), self.edits_per_step)

    @cached_property
    def sequence_id(self) -> str:
        """Digest of all that decides it, but its length: a longer one begins like a shorter."""
        return digest(
            "sequence",
            NUMERICS,
            self.inputs.identity,
            self.plan.evaluation_id,
            self.order_seed,
            self.edits_per_step,
            [request.request_id for request in self.requests],
            self.spec.checkpoints,
            self.spec.chunk_steps,
            self.spec.final_sample,
            self.spec.guard,
            *self._rule_that_counts,
            *(() if self.asked_restraint == "none" else ("restraint", self.asked_restraint)),
        )

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The sequence in tasks."""
        return chunks_of(self.spec, len(self.requests), self.edits_per_step)

    def cached_chunks(self) -> Iterator[tuple[SequenceChunkJob, Manifest]]:
        """Yield the chunks that are there, from the first on, with their manifests."""
        standing = Standing()
        for chunk in self.chunks:
            job = self.chunk_job(chunk, standing)
            done = cached_manifest(job)
            if done is None:
                return
            yield job, done
            standing = standing.after(done, is_safe=False)

    def chunk_job(self, chunk: Chunk, standing: Standing) -> SequenceChunkJob:
        """Return the job of a chunk, given where the sequence stands before it."""
        guard, texts = self.spec.guard, self.plan.texts_ref
        return SequenceChunkJob(
            results=self.plan.results,
            inputs=self.inputs,
            sequence_id=self.sequence_id,
            predecessor=standing.predecessor,
            first_step=chunk.first_step,
            steps=tuple(self._facts(step) for step in range(chunk.first_step, chunk.last_step + 1)),
            n_before=(chunk.first_step - 1) * self.edits_per_step,
            is_checkpoint=chunk.is_checkpoint,
            sample=self._sample(chunk.last_step) if chunk.is_checkpoint else (),
            measured=self._measured(chunk),
            states=standing.states,
            rank=standing.rank,
            safe_states=standing.safe_states,
            safe_rank=standing.safe_rank,
            texts=texts,
            evaluation_id=self.plan.evaluation_id,
            seed=self.plan.study.seed,
            guard=None if guard is None else SequenceGuard(guard.policy, guard.text_change),
            restraint=self.restraint,
            order_label=self._order_label,
        )

    def rows(self) -> tuple[SequenceRow, StudySequenceRow]:
        """Return the sequence, and its place in the study, as rows."""
        setup, model, guard = self.inputs.editor, self.inputs.model, self.spec.guard
        sequence = SequenceRow(
            sequence_id=self.sequence_id,
            model_id=model.model_id,
            editor=setup.name,
            layers=list(setup.layers(model)),
            settings_id=setup.settings_id(model),
            order_seed=self.order_seed,
            edits_per_step=self.edits_per_step,
            evaluation_id=self.plan.evaluation_id,
            template_set_id=self.inputs.template_set_id,
            guard_policy=None if guard is None else guard.policy,
            guard_bound=None if guard is None else guard.text_change,
            restraint=None if self.asked_restraint == "none" else self.asked_restraint,
        )
        # Sequences of other numbers of edits a step, or restraints, are other curves.
        name = setup.name
        if len(self.spec.edits_per_step) > 1:
            name += f", {self.edits_per_step} a step"
        if len(self.spec.restraints) > 1 and self.asked_restraint != "none":
            name += f", restraint {self.asked_restraint}"
        member = StudySequenceRow(
            self.plan.study_id, self.sequence_id, model.spec.name, name, self.n_edits
        )
        return sequence, member

    def _facts(self, step: int) -> tuple[EditRequest, ...]:
        """Return the facts of a step, counted from 1."""
        first = (step - 1) * self.edits_per_step
        return self.requests[first : first + self.edits_per_step]

    def _sample(self, last_step: int) -> tuple[tuple[int, EditRequest], ...]:
        """Return step and request of the edits whose success is measured again after a step."""
        n_edits = last_step * self.edits_per_step
        chosen = sorted(range(n_edits), key=self._draws.__getitem__)[: self.spec.final_sample]
        return tuple(
            (place // self.edits_per_step + 1, self.requests[place]) for place in sorted(chosen)
        )

    def _measured(self, chunk: Chunk) -> frozenset[str]:
        """Return the requests of a chunk that the sample of a later checkpoint may hold.

        Samples are of the smallest of fixed numbers: what is not among them at the chunk's end is
        never again.
        """
        return frozenset(
            request.request_id
            for step, request in self._sample(chunk.last_step)
            if step >= chunk.first_step
        )

    @cached_property
    def _draws(self) -> tuple[float, ...]:
        """A number drawn for each place: those with the smallest are the sample."""
        drawn = random.Random(f"sample {self.order_seed}")
        return tuple(drawn.random() for _ in self.requests)
