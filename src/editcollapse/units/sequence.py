"""The job of a sequence: a chunk of steps on one model, each on what the ones before have left.

The weights are really written, and put back bit by bit when the chunk ends. The sum of updates is
float64 and is stored as factors until the whole matrix is smaller; what a chunk starts from is
always read from its predecessor's files, so a sequence that was killed loses one chunk at most and
no bit.
"""

import contextlib
import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from editcollapse.catalog.editors import GradientEditor, JointEditor
from editcollapse.catalog.methods import Method
from editcollapse.data.requests import EditRequest
from editcollapse.editors.fine_tuning import fine_tune
from editcollapse.editors.joint import goal_values, joint_step
from editcollapse.editors.past_keys import PastKeys
from editcollapse.editors.restraints import restrained
from editcollapse.editors.running_sum import (
    Factors,
    LayerSum,
    SumsInWeights,
    WrittenWeights,
    with_state,
    write_all,
    writing,
)
from editcollapse.evaluation.perplexity import encode_texts, perplexities, text_nll
from editcollapse.evaluation.probes import ProbePlan, plan_probes
from editcollapse.evaluation.scores import Answer, answer_probes, score_probes
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import Rewrite, build_rewrites
from editcollapse.models.loading import LoadedModel
from editcollapse.models.tokenization import UnusableTextError
from editcollapse.rome.updates import no_update, rank_one_updates
from editcollapse.rows.sequences import (
    SequenceCheckpointRow,
    SequenceLayerRow,
    SequenceScoreRow,
    SequenceStepRow,
)
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import Manifest
from editcollapse.study.sequence_jobs import (
    APPLIED,
    ROLLED_BACK,
    SKIPPED,
    STOPPED,
    UNUSABLE,
    SequenceChunkJob,
    SequenceGuard,
)
from editcollapse.units.edit import optimise_in_groups
from editcollapse.units.editors import EditorOnModel, editor_on_model, find_targets, last_layer
from editcollapse.units.prepare import Progress, load

logger = logging.getLogger(__name__)

STATES = "sequence_states"
"""Kind of the files of sums of updates."""
IMMEDIATE, FINAL = "immediate", "final"


@float32_products()
def sequence_chunk(job: SequenceChunkJob, on_edit: Progress = None) -> Manifest:
    """Return a chunk's rows, and where it leaves the weights.

    Args:
        job: the chunk.
        on_edit: called with edits of the chunk made, and all.

    Raises:
        ArtifactError: a file of C, or of the state before, is missing or has changed.
        MomentError: a matrix has no Cholesky factor.
        DeviceMemoryError: one edit alone does not fit on the device.
    """
    clock = job.clock("sequence", job.inputs.model)
    store = ArtifactStore(job.results)
    loaded = load(job.inputs.model)
    chunk = _Chunk(store, loaded, job)
    asked = [request for step in job.steps for request in step]
    immediate = [each for each in asked if each.request_id in job.measured]
    chunk.answer_unedited([*immediate, *(request for _, request in job.sample)])
    layers = job.inputs.editor.layers(job.inputs.model)
    with writing({each: loaded.weight(each) for each in layers}) as written:
        chunk.run(written, on_edit)
        if job.is_checkpoint or chunk.is_stopped:
            chunk.measure(written)
    states = chunk.stored()
    found = chunk.rows
    summary = f"{job.label}: {found.in_words()}"
    provenance = clock.row(summary, chunk.n_edits, str(loaded.device))
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("sequence_steps", found.steps),
            store.put_rows("sequence_layers", found.layers),
            store.put_rows("sequence_checkpoints", found.checkpoints),
            store.put_rows("sequence_scores", found.scores),
            store.put_rows("provenance", [provenance]),
        ),
        values=(str(chunk.rank), *((STOPPED,) if chunk.is_stopped else ())),
        unusable=tuple(chunk.unusable.items()),
        states=states,
    )


@dataclasses.dataclass(slots=True)
class _Rows:
    steps: list[SequenceStepRow] = dataclasses.field(default_factory=list)
    layers: list[SequenceLayerRow] = dataclasses.field(default_factory=list)
    checkpoints: list[SequenceCheckpointRow] = dataclasses.field(default_factory=list)
    scores: list[SequenceScoreRow] = dataclasses.field(default_factory=list)

    def in_words(self) -> str:
        """The last step, and what was measured there."""
        if not self.steps:
            return "no step"
        said = f"text change {self.steps[-1].text_change:.3g}"
        if self.checkpoints:
            said += f", perplexity {self.checkpoints[-1].perplexity:.4g}"
        return said


@dataclasses.dataclass(frozen=True, slots=True)
class _Done:
    """What the optimisation of a step says of itself."""

    loss: float | None
    target_probability: float | None
    n_passes: int


_answered: dict[str, dict[ProbePlan, list[Answer]]] = {}
"""The unedited answers of one model, by its id: every sequence of it asks for them."""


class _Chunk:
    """A chunk while it runs.

    Args:
        store: of the results folder.
        loaded: the model, unedited.
        job: the chunk.
    """

    def __init__(self, store: ArtifactStore, loaded: LoadedModel, job: SequenceChunkJob) -> None:
        self._store, self._loaded, self._job = store, loaded, job
        self._inputs = job.inputs
        self._setup = job.inputs.editor
        self._on_model: EditorOnModel = editor_on_model(store, loaded, job.inputs)
        self.rank = job.rank
        """Of the sum of updates at most."""
        self._origin = job.states
        self._sums, self._past = self._read(job.states)
        self._new: dict[int, list[Factors]] = {layer: [] for layer in self._sums}
        self._new_past: dict[int, list[Tensor]] = {layer: [] for layer in self._sums}
        self._unedited: dict[str, tuple[ProbePlan, list[Answer]]] = {}
        self.rows = _Rows()
        self._rewritten: dict[str, Rewrite] = {}
        """Requests in tokens, by id."""
        self.unusable: dict[str, str] = {}
        """Request id to the reason why the model cannot take it."""
        self.is_stopped = False
        """Whether the guard has ended the sequence."""
        self.n_edits = 0
        """Edits of the chunk that are made or left out."""

    def answer_unedited(self, requests: Sequence[EditRequest]) -> None:
        """Ask the unedited model all that the edited one will be asked; it must be unedited."""
        self._rewrites(requests)  # those that cannot be edited are never asked
        plans = {}
        for request in requests:
            if request.request_id in plans or request.request_id in self.unusable:
                continue
            try:
                plans[request.request_id] = plan_probes(
                    self._loaded.encoder, self._inputs.templates, request, self._job.seed
                )
            except UnusableTextError as error:
                self.unusable[request.request_id] = str(error)
        known = _answered.get(self._loaded.model_id)
        if known is None:
            _answered.clear()
            known = _answered[self._loaded.model_id] = {}
        for plan in plans.values():
            if plan not in known:
                # Each by itself: what it answers does not hang on what else is asked.
                (known[plan],) = self._answers([plan])
            self._unedited[plan.request_id] = (plan, known[plan])

    def run(self, written: WrittenWeights, on_edit: Progress) -> None:
        """Make the steps of the chunk, or those up to where the guard stops."""
        write_all(written, self._sums)
        n_all = sum(len(step) for step in self._job.steps)
        n_edits = self._job.n_before
        for index, step in enumerate(self._job.steps):
            n_edits += len(step)
            number = self._job.first_step + index
            kept = self._kept() if self._job.guard is not None else None
            rewrites = self._rewrites(step)
            if rewrites:
                done, norm = self._step(written, rewrites)
                decision = self._decide(written, kept)
            else:
                done, norm, decision = _Done(None, None, 0), 0.0, UNUSABLE
            if decision == STOPPED:
                n_edits -= len(step)
            self.n_edits = n_edits - self._job.n_before
            self.rows.steps.append(self._step_row(number, n_edits, decision, norm, done))
            if decision == STOPPED:
                self.is_stopped = True
                break
            asked = [(number, each) for each in step if each.request_id in self._job.measured]
            if asked:
                with self._as_measured(written):
                    self._score(number, asked, IMMEDIATE)
            if on_edit is not None:
                on_edit(n_edits - self._job.n_before, n_all)

    def measure(self, written: WrittenWeights) -> None:
        """Measure the model after the last step: perplexity, layers, and success of all so far."""
        job, loaded = self._job, self._loaded
        texts = encode_texts(loaded.encoder, self._store.json(job.texts))
        hooked = HookedLayer(loaded, min(self._sums))
        budget = tokens_per_forward(loaded.device, loaded.size(hooked.layer), "answers")
        last = self.rows.steps[-1]
        is_refused = last.decision == STOPPED
        made = [each for each in job.sample if each[0] < last.step + (not is_refused)]
        with self._as_measured(written):
            (found,) = perplexities(text_nll(hooked, texts, no_update(loaded.widths), budget))
            self._score(last.step, made, FINAL)
        self.rows.checkpoints.append(
            SequenceCheckpointRow(
                sequence_id=job.sequence_id,
                step=last.step,
                n_edits=last.n_edits,
                perplexity=found.mean,
                perplexity_median=found.median,
                perplexity_max=found.max,
                nll_mean=found.nll_mean,
                n_texts=len(texts.rows),
            )
        )
        self.rows.layers += [
            self._layer_row(last.step, layer, total) for layer, total in self._measured_sums()
        ]

    def stored(self) -> tuple[ArtifactRef, ...]:
        """Write where the chunk leaves the weights; return all files that say so."""
        weight = next(iter(self._sums.values())).scale.weight
        n_out, n_in = weight.shape
        is_dense = self._setup.is_dense or self.rank * (n_out + n_in) >= n_out * n_in
        tensors: dict[str, Tensor] = {}
        if is_dense:
            for layer, total in self._sums.items():
                tensors[f"total.{layer}"] = total.total
            for layer, keys in self._past.items():
                tensors |= keys.tensors(layer)
            return (self._store.put_tensors(STATES, tensors),)
        for layer, new in self._new.items():
            if new:
                tensors[f"left.{layer}"] = torch.cat([each.left for each in new], dim=1)
                tensors[f"right.{layer}"] = torch.cat([each.right for each in new])
            if self._new_past[layer]:
                tensors[f"past.{layer}"] = torch.cat(self._new_past[layer])
        if not tensors:
            return self._origin
        return (*self._origin, self._store.put_tensors(STATES, tensors))

    @contextlib.contextmanager
    def _as_measured(self, written: WrittenWeights) -> Iterator[None]:
        """Let the model be in the block what is taken home: with the restraint, if there is one."""
        if self._job.restraint == "none":
            yield
            return
        write_all(written, self._sums, self._job.restraint)
        try:
            yield
        finally:
            write_all(written, self._sums)

    def _measured_sums(self) -> Iterator[tuple[int, LayerSum]]:
        """Yield each layer's sum as the model that is measured has it."""
        for layer, total in self._sums.items():
            if self._job.restraint == "none":
                yield layer, total
            else:
                drawn = restrained(total.total, total.scale.spectral_norm, self._job.restraint)
                same = drawn is total.total
                yield layer, total if same else LayerSum(total.scale, drawn)

    def _read(self, refs: Sequence[ArtifactRef]) -> tuple[dict[int, LayerSum], dict[int, PastKeys]]:
        """Return sums and past keys of all layers as files have them."""
        if not refs:
            scales = self._on_model.scales
            return {layer: LayerSum(scales[layer]) for layer in scales}, self._no_past()
        totals = {layer: torch.zeros_like(s.weight) for layer, s in self._on_model.scales.items()}
        past = self._no_past()
        for ref in refs:
            tensors = self._store.tensors(ref)
            totals = {each: with_state(total, each, tensors) for each, total in totals.items()}
            for layer, keys in past.items():
                if f"total.{layer}" in tensors:
                    keys.forget()
                keys.read(layer, tensors)
        for each in past.values():
            each.settle()
        sums = {
            layer: LayerSum(self._on_model.scales[layer], total) for layer, total in totals.items()
        }
        return sums, past

    def _no_past(self) -> dict[int, PastKeys]:
        """Return an empty S of each layer, for an editor that looks at earlier keys."""
        editor = self._setup.row
        if not isinstance(editor, JointEditor) or editor.past == "none":
            return {}
        return {layer: PastKeys(each) for layer, each in self._on_model.equations.items()}

    def _rewrites(self, step: Sequence[EditRequest]) -> list[Rewrite]:
        """Return a step's facts in tokens, those that the model cannot take named."""
        rank_one = isinstance(self._setup.row, Method)
        templates = self._inputs.method_templates if rank_one else self._inputs.templates
        known = self._rewritten
        new = [each for each in step if each.request_id not in known]
        rewrites, unusable = build_rewrites(self._loaded.encoder, templates, new)
        known |= {each.request.request_id: each for each in rewrites}
        for found in unusable:
            if found.request.request_id not in self.unusable:
                logger.warning("%s: %s", self._inputs.model.spec.name, found.reason)
            self.unusable[found.request.request_id] = found.reason
        return [known[each.request_id] for each in step if each.request_id in known]

    def _step(self, written: WrittenWeights, rewrites: Sequence[Rewrite]) -> tuple[_Done, float]:
        """Make one step; return what it says of itself, and the norm of what it wrote."""
        editor = self._setup.row
        if isinstance(editor, Method):
            return self._rank_one(written, rewrites, editor)
        if isinstance(editor, JointEditor):
            return self._joint(written, rewrites, editor)
        return self._gradient(written, rewrites, editor)

    def _add(self, written: WrittenWeights, layer: int, update: Factors | Tensor) -> float:
        """Add an update to a layer's sum and write it; return its norm."""
        norm = SumsInWeights(self._sums, written).add(layer, update)
        if isinstance(update, Factors):
            self._new[layer].append(update)
        return norm

    def _rank_one(
        self, written: WrittenWeights, rewrites: Sequence[Rewrite], method: Method
    ) -> tuple[_Done, float]:
        """Make rank-one edits one after the other."""
        model, solver = self._inputs.model, self._on_model.solver
        assert solver is not None
        hooked = HookedLayer(self._loaded, model.layer)
        losses, shares, passes, norms = [], [], 0, []
        for rewrite in rewrites:
            values = optimise_in_groups(hooked, [rewrite], model.values)
            updates, _ = rank_one_updates(
                values,
                method,
                solver,
                self._loaded.weight(model.layer),
                model.values.clamp_factor,
            )
            factors = Factors(updates.left.T.contiguous(), updates.right)
            norms.append(self._add(written, model.layer, factors))
            losses.append(float(values.loss.total[0]))
            shares.append(float(values.loss.target_probability[0]))
            passes += int(values.n_steps[0]) + 1
        self.rank += len(rewrites)
        return _Done(_mean(losses), _mean(shares), passes), math.hypot(*norms)

    def _joint(
        self, written: WrittenWeights, rewrites: Sequence[Rewrite], editor: JointEditor
    ) -> tuple[_Done, float]:
        """Make one joint edit."""
        settings = self._setup.joint
        assert settings is not None
        found = find_targets(self._loaded, rewrites, self._setup.targets)
        goals = goal_values(
            last_layer(self._loaded, settings),
            rewrites,
            found.before,
            found.delta,
            editor,
            self._inputs.mean_length,
        )
        steps = joint_step(
            self._loaded,
            rewrites,
            goals,
            editor,
            settings,
            self._on_model.equations,
            self._past,
            SumsInWeights(self._sums, written),
        )
        for each in steps:
            if isinstance(each.update, Factors):
                self._new[each.layer].append(each.update)
            if each.layer in self._past:
                # A layer's key does not depend on its own W: read on the edited model, after the
                # write, it is the same.
                self._remember(each.layer, each.keys)
        self.rank += len(rewrites)
        done = _Done(
            _mean(found.loss.total.tolist()),
            _mean(found.loss.target_probability.tolist()),
            int(found.n_steps.sum()) + len(rewrites),
        )
        return done, math.hypot(*(each.norm for each in steps))

    def _gradient(
        self, written: WrittenWeights, rewrites: Sequence[Rewrite], editor: GradientEditor
    ) -> tuple[_Done, float]:
        """Fine-tune on a step's facts."""
        settings = self._setup.gradient
        assert settings is not None
        (layer,) = settings.layers
        so_far = self._sums[layer].total
        made = fine_tune(self._loaded, rewrites, editor, settings, so_far)
        norm = self._add(written, layer, made.change)
        return _Done(made.loss, math.exp(-made.loss), made.n_passes), norm

    def _remember(self, layer: int, keys: Tensor) -> None:
        """Add keys to a layer's S."""
        self._past[layer].add(keys)
        self._new_past[layer].append(keys)

    def _kept(self) -> "_Kept":
        """Return where everything stands before a step, for a guard that refuses it."""
        return _Kept(
            {layer: total.total.clone() for layer, total in self._sums.items()},
            {layer: each.copied() for layer, each in self._past.items()},
            {layer: len(new) for layer, new in self._new.items()},
            {layer: len(new) for layer, new in self._new_past.items()},
            self.rank,
        )

    def _decide(self, written: WrittenWeights, kept: "_Kept | None") -> str:
        """Return what becomes of the step just made: applied, or undone by the guard."""
        guard: SequenceGuard | None = self._job.guard
        sums = [total for _, total in self._measured_sums()] if guard is not None else []
        if guard is None or kept is None or _text_change(sums) <= guard.bound:
            return APPLIED
        if guard.policy == "roll back":
            self._origin, self.rank = self._job.safe_states, self._job.safe_rank
            self._sums, self._past = self._read(self._origin)
            self._new = {layer: [] for layer in self._sums}
            self._new_past = {layer: [] for layer in self._sums}
        else:
            for layer, total in kept.totals.items():
                self._sums[layer] = LayerSum(self._sums[layer].scale, total)
                del self._new[layer][kept.n_new[layer] :]
                del self._new_past[layer][kept.n_new_past[layer] :]
            self._past = kept.past
            self.rank = kept.rank
        write_all(written, self._sums)
        decisions = {"stop": STOPPED, "skip": SKIPPED, "roll back": ROLLED_BACK}
        return decisions[guard.policy]

    def _step_row(
        self, number: int, n_edits: int, decision: str, norm: float, done: _Done
    ) -> SequenceStepRow:
        sums = [total for _, total in self._measured_sums()]
        drift = math.hypot(*(total.norm for total in sums))
        whole = math.hypot(*(total.scale.norm for total in sums))
        return SequenceStepRow(
            sequence_id=self._job.sequence_id,
            step=number,
            n_edits=n_edits,
            decision=decision,
            update_norm=norm,
            drift_norm=drift,
            relative_drift=drift / whole,
            text_change=_text_change(sums),
            loss=done.loss,
            target_probability=done.target_probability,
            n_passes=done.n_passes,
            is_finite=math.isfinite(drift),
        )

    def _layer_row(self, step: int, layer: int, total: LayerSum) -> SequenceLayerRow:
        equation = self._on_model.equations.get(layer)
        return SequenceLayerRow(
            sequence_id=self._job.sequence_id,
            step=step,
            layer=layer,
            drift_norm=total.norm,
            relative_drift=total.norm / total.scale.norm,
            spectral_norm=total.spectral_norm,
            relative_spectral_norm=total.spectral_norm / total.scale.spectral_norm,
            text_change=total.text_change,
            kept_dimensions=None if equation is None else equation.kept_dimensions,
        )

    def _answers(self, plans: Sequence[ProbePlan]) -> list[list[Answer]]:
        """Return the answers of the model as it is."""
        hooked = HookedLayer(self._loaded, min(self._sums))
        budget = tokens_per_forward(self._loaded.device, self._loaded.size(hooked.layer), "answers")
        (found,) = answer_probes(hooked, plans, [None], budget)
        return found

    def _score(self, step: int, edits: Sequence[tuple[int, EditRequest]], moment: str) -> None:
        """Ask the model as it is the probes of some edits."""
        known = [
            (edited_at, self._unedited[request.request_id])
            for edited_at, request in edits
            if request.request_id in self._unedited
        ]
        answers = self._answers([plan for _, (plan, _) in known])
        for (edited_at, (plan, before)), after in zip(known, answers, strict=True):
            scores = score_probes(plan, after, before)
            self.rows.scores.append(
                SequenceScoreRow(
                    sequence_id=self._job.sequence_id,
                    step=step,
                    request_id=plan.request_id,
                    moment=moment,
                    edited_at=edited_at,
                    efficacy=scores.efficacy,
                    efficacy_prefix_mean=scores.efficacy_prefix_mean,
                    generalization=scores.generalization,
                    locality=scores.locality,
                    efficacy_score=scores.efficacy_score,
                    paraphrase_score=scores.paraphrase_score,
                    neighborhood_score=scores.neighborhood_score,
                    target_new_nll=scores.target_new_nll,
                )
            )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """Where a chunk stood before a step."""

    totals: dict[int, Tensor]
    past: dict[int, PastKeys]
    n_new: dict[int, int]
    n_new_past: dict[int, int]
    rank: int


def _text_change(sums: Sequence[LayerSum]) -> float:
    """Return the largest text change of a layer; nan where one is no number."""
    changes = [total.text_change for total in sums]
    return math.nan if any(math.isnan(each) for each in changes) else max(changes)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
