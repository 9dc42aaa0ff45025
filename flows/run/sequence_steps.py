"""Single edits and sequences of editors beyond rank one, as jobs of a study's run."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.rows.frames import rows_of
from editcollapse.rows.sequences import SequenceCheckpointRow
from editcollapse.rows.study import StudyEditRow
from editcollapse.study.jobs import Manifest
from editcollapse.study.locks import cached_manifest
from editcollapse.study.model_editors import ModelEditors
from editcollapse.study.plan import ModelPlan
from editcollapse.study.sequence_jobs import STOPPED, EditorBatchJob, EditorInputs, TargetsJob
from editcollapse.study.sequences import Chunk, ModelSequence, Standing
from flows.run.answer_steps import AnswersRun
from tasks.preparing import context_templates
from tasks.sequences import edit_chunk, edit_singly, target_values, value_lengths

if TYPE_CHECKING:
    from flows.run.study_run import StudyRun


class EditorRun:
    """Single edits and sequences of one model.

    Args:
        run: the pass through the study's plan; it has listed ``ModelEditors.n_jobs``.
        model: the model.
        templates: what the job of the study's templates returned.
        moments: what the jobs of ``ModelEditors.covariance_plans`` returned.
        unedited: what the job of the unedited model returned.
    """

    def __init__(
        self,
        run: "StudyRun",
        model: ModelPlan,
        templates: Manifest,
        moments: Sequence[Manifest],
        unedited: Manifest,
    ) -> None:
        self._run, self._model = run, model
        self._editors = ModelEditors(run.plan, model)
        self._found: dict[str, Manifest] = {}
        """What jobs of z* returned, by key."""
        own = run.compute(context_templates, self._editors.templates_job)
        run.rows.add(own.rows)
        self._inputs = tuple(
            self._with_length(self._editors.inputs(setup, templates, own, moments))
            for setup in self._editors.setups
        )
        settings = [each.editor_row() for each in self._inputs]
        rows = [each for each in settings if each is not None]
        run.rows.add([run.store.put_rows("editor_settings", rows)])
        self._unedited_job = unedited
        (ref,) = (ref for ref in unedited.rows if ref.table == "base_perplexities")
        (self._unedited,) = rows_of("base_perplexities", run.store.frame(ref))
        """The unedited model's row."""

    def edit_singly(self, answers: AnswersRun) -> None:
        """Make and measure the single edits of every editor, batch by batch.

        Args:
            answers: is told of every batch.
        """
        run = self._run
        run.rows.add([run.store.put_rows("study_models", self._editors.layer_rows())])
        waiting: deque[tuple[EditorBatchJob, Callable[[], Manifest]]] = deque()
        for inputs in self._inputs:
            if inputs.editor.name not in run.plan.study.single_editors:
                continue
            run.rows.add([run.store.put_rows("value_settings", [inputs.settings_row()])])
            targets = self._targets(self._editors.target_jobs(inputs))
            for job in self._editors.batch_jobs(inputs, targets):
                waiting.append((job, run.start(edit_singly, job)))
                if len(waiting) > run.plan.study.runner.workers:
                    self._enter(*waiting.popleft(), answers)
        for job, wait in waiting:
            self._enter(job, wait, answers)

    def edit_sequences(self) -> None:
        """Make the model's sequences, chunk by chunk, as many at once as there are workers."""
        run = self._run
        sequences = [each for own in self._inputs for each in self._editors.sequences(own)]
        if not sequences:
            return
        pairs = [each.rows() for each in sequences]
        run.rows.add(
            [
                run.store.put_rows("sequences", [sequence for sequence, _ in pairs]),
                run.store.put_rows("study_sequences", [member for _, member in pairs]),
            ]
        )
        waiting = deque(sequences)
        running: deque[Iterator[None]] = deque()
        while waiting or running:
            while waiting and len(running) < run.plan.study.runner.workers:
                running.append(self._chunks(waiting.popleft()))
            one = running.popleft()
            for _ in one:  # one chunk further: started, so that the others' may run beside it
                running.append(one)
                break

    def _with_length(self, inputs: EditorInputs) -> EditorInputs:
        """Return an editor's inputs with the mean length that NAS needs."""
        if self._editors.lengths_job(inputs) is None:
            return inputs
        targets = self._targets(self._editors.length_targets(inputs))
        job = self._editors.lengths_job(inputs, targets)
        assert job is not None
        done = self._run.compute(value_lengths, job)
        self._run.rows.add(done.rows)
        return inputs.with_length(job, done)

    def _targets(self, jobs: Iterable[TargetsJob]) -> list[Manifest]:
        """Return z* of some batches on the unedited model; made once for all editors alike."""
        found = []
        for job in jobs:
            if job.key not in self._found:
                self._found[job.key] = self._run.compute(target_values, job)
                self._run.rows.add(self._found[job.key].rows)
            found.append(self._found[job.key])
        return found

    def _enter(
        self, job: EditorBatchJob, wait: Callable[[], Manifest], answers: AnswersRun
    ) -> None:
        """Wait for a batch of single edits; hand its rows to the database."""
        run, done = self._run, wait()
        answers.add(job, done)
        unusable = dict(done.unusable)
        members = [
            StudyEditRow(run.plan.study_id, job.edit_id(request.request_id))
            for request in job.requests
            if request.request_id not in unusable
        ]
        rejected = run.rejections(self._model, run.plan.records_of(job.batch_index), unusable)
        run.rows.add(
            [
                *done.rows,
                run.store.put_rows("study_edits", members),
                run.store.put_rows("rejections", rejected),
            ]
        )
        if run.is_new(done):
            run.events.edits_measured(
                self._model, job.batch_index, job.requests, done.rows, self._unedited_job
            )

    def _chunks(self, sequence: ModelSequence) -> Iterator[None]:
        """Make a sequence chunk by chunk; yields when a chunk has been started."""
        run, standing = self._run, Standing()
        n_whole = self._resumable(sequence)
        n_made = 0
        alive: int | None = 0
        for place, chunk in enumerate(sequence.chunks):
            # What lies behind is read from its manifests; from there on states are needed.
            job = sequence.chunk_job(chunk, standing)
            job = job.model_copy(update={"needs_states": place >= n_whole})
            wait = run.start(edit_chunk, job)
            yield
            done = wait()
            n_made += 1
            run.rows.add(done.rows)
            if done.unusable:
                records = run.plan.requests.records
                rejected = run.rejections(self._model, records, dict(done.unusable))
                run.rows.add([run.store.put_rows("rejections", rejected)])
            measured = self._checkpoints(chunk, done)
            alive = self._tell(sequence, done, measured, alive)
            own = run.plan.study.collapse.rule  # the one that the sequence's id knows
            is_safe = chunk.is_checkpoint and not self._has_collapsed(measured, own)
            before, standing = standing, standing.after(done, is_safe=is_safe)
            self._thin(sequence, place, before, standing)
            if self._is_last(sequence, done, measured):
                break
        run.listed.correct(len(sequence.chunks), n_made)

    def _thin(self, sequence: ModelSequence, place: int, before: Standing, after: Standing) -> None:
        """Remove the whole state that a chunk began with, once it has left one of its own.

        Factors stay: later states are made of them. So do states at checkpoints.
        """
        chunks = sequence.chunks
        if not sequence.inputs.editor.is_dense or place == 0 or chunks[place - 1].is_checkpoint:
            return
        for ref in set(before.states) - set(after.states) - set(after.safe_states):
            self._run.store.results.remove(ref.path)

    def _resumable(self, sequence: ModelSequence) -> int:
        """Return how many chunks at the start need no state: all that are there, if none is left.

        A chunk that is there needs its state only where the next one is not.
        """
        cached = list(zip(sequence.chunks, sequence.cached_chunks(), strict=False))
        if cached:
            chunk, (_, done) = cached[-1]
            if len(cached) == len(sequence.chunks):
                return len(cached)
            if self._is_last(sequence, done, self._checkpoints(chunk, done)):
                return len(cached)
        for place, (_, (job, _)) in reversed(list(enumerate(cached, start=1))):
            if cached_manifest(job.model_copy(update={"needs_states": True})) is not None:
                return place
        return 0

    def _is_last(
        self, sequence: ModelSequence, done: Manifest, measured: Sequence[SequenceCheckpointRow]
    ) -> bool:
        """Return whether a sequence ends with a chunk: by its guard, or collapsed."""
        if STOPPED in done.values[1:]:
            return True
        return sequence.spec.ends_at_collapse and self._has_collapsed(measured, self._run.rule)

    def _tell(
        self,
        sequence: ModelSequence,
        done: Manifest,
        measured: Sequence[SequenceCheckpointRow],
        alive: int | None,
    ) -> int | None:
        """Emit the events of a chunk that was computed in this run.

        Args:
            sequence: which one.
            done: what the chunk's job returned.
            measured: the chunk's checkpoint.
            alive: edits at the last checkpoint before at which the model was alive; None where it
                has collapsed.

        Returns:
            The same after this chunk.
        """
        run, is_new = self._run, self._run.is_new(done)
        if is_new:
            run.events.steps_made(self._model, sequence, done)
        if alive is None:
            return alive
        for row in measured:
            if not self._is_collapsed(row, run.rule):
                alive = row.n_edits
                continue
            if is_new:
                run.events.sequence_collapsed(self._model, sequence, row, self._unedited, alive)
            return None
        return alive

    def _has_collapsed(self, measured: Sequence[SequenceCheckpointRow], rule: CollapseRule) -> bool:
        """Return whether a model has collapsed by a rule at one of some checkpoints."""
        return any(self._is_collapsed(row, rule) for row in measured)

    def _is_collapsed(self, row: SequenceCheckpointRow, rule: CollapseRule) -> bool:
        """Return whether a model has collapsed at a checkpoint by a rule."""
        before = rule.perplexity_of(self._unedited)
        return bool(rule.collapsed(rule.perplexity_of(row), before))

    def _checkpoints(self, chunk: Chunk, done: Manifest) -> Sequence[SequenceCheckpointRow]:
        """Return the checkpoint that a chunk ends with; nothing where it ends with none."""
        if not chunk.is_checkpoint:
            return ()
        (ref,) = (ref for ref in done.rows if ref.table == "sequence_checkpoints")
        return rows_of("sequence_checkpoints", self._run.store.frame(ref))
