"""The editors and sequences of a study as jobs: orders, chunks of steps, checkpoints."""

import dataclasses
import json
import random
from collections.abc import Iterator, Sequence
from functools import cached_property

from editcollapse import NUMERICS
from editcollapse.catalog.editor_presets import (
    EditorSettings,
    GradientSettings,
    JointSettings,
    editor_settings,
)
from editcollapse.catalog.editors import EDITORS, GradientEditor, JointEditor
from editcollapse.catalog.methods import METHODS
from editcollapse.catalog.presets import ValueSettings
from editcollapse.config.sequence import EditorSpec, SequenceSpec
from editcollapse.data.requests import EditRequest
from editcollapse.errors import StudyError
from editcollapse.fingerprints import canonical, digest
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.rows.sequences import SequenceRow, StudySequenceRow
from editcollapse.rows.study import StudyModelRow
from editcollapse.study.artifacts import ArtifactRef
from editcollapse.study.jobs import (
    CovarianceJob,
    Manifest,
    ModelSetup,
    TemplatesJob,
    template_set_id_of,
)
from editcollapse.study.locks import cached_manifest
from editcollapse.study.plan import CovariancePlan, ModelPlan, StudyPlan
from editcollapse.study.sequence_jobs import (
    STOPPED,
    EditorBatchJob,
    EditorInputs,
    EditorSetup,
    LayerMoment,
    LengthsJob,
    SequenceChunkJob,
    SequenceGuard,
    TargetsJob,
)

EDITOR_LAYER = "editor's layer"
"""``layer_source`` of a layer that only an editor beyond rank one edits."""
_OVERRIDES = "the study file over "


@dataclasses.dataclass(frozen=True)
class ModelEditors:
    """One model of a study, with all that its editors beyond rank one and its sequences need."""

    plan: StudyPlan
    model: ModelPlan

    @property
    def names(self) -> tuple[str, ...]:
        """All editors that single edits or sequences ask for, each once."""
        sequence = self.plan.study.sequence
        asked = () if sequence is None else sequence.editors
        return tuple(dict.fromkeys((*self.plan.study.single_editors, *asked)))

    @cached_property
    def setups(self) -> tuple[EditorSetup, ...]:
        """Each editor's settings on the model.

        Raises:
            StudyError: the model has no such layer, or cannot take several.
        """
        return tuple(self._setup(name) for name in self.names)

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers that C is needed of, the model's own among them, in ascending order."""
        layers = {self.model.setup.layer}
        for setup in self.setups:
            layers.update(setup.layers(self.model.setup))
        return tuple(sorted(layers))

    def n_jobs(self, *, singly: bool) -> int:
        """Return the jobs of editors and sequences, if nothing ends one early, without C's.

        Args:
            singly: whether single edits are made too.
        """
        if not self.names:
            return 0
        single = self.plan.study.single_editors if singly else ()
        lengths = [each for each in self.setups if _needs_length(each)]
        asked = [each for each in self.setups if each.name in single or each in lengths]
        # Editors that look for the same z* share it.
        kinds = {_targets_of(each) for each in asked if each.joint is not None}
        n_single = self.n_single_jobs if singly else 0
        return 1 + len(lengths) + self.plan.n_batches * len(kinds) + n_single + self.n_chunks

    @property
    def n_single_jobs(self) -> int:
        """Batches of single edits of all editors beyond rank one."""
        return self.plan.n_batches * len(self.plan.study.single_editors)

    @property
    def n_chunks(self) -> int:
        """Chunks of all sequences."""
        spec = self.plan.study.sequence
        if spec is None:
            return 0
        n_requests = len(self.plan.requests.records)
        n_chunks = sum(len(chunks_of(spec, n_requests, each)) for each in spec.edits_per_step)
        return len(spec.editors) * spec.orders * n_chunks

    def covariance_plans(self) -> tuple[CovariancePlan, ...]:
        """Return each layer's covariance plan; all share one pass over the corpus.

        Raises:
            StudyError: published statistics are of one layer, and several are needed.
        """
        study = self.plan.study
        if study.covariance.kind == "statistics" and len(self.layers) > 1:
            raise StudyError(
                f"editors of {self.model.setup.spec.name} need C of layers "
                f"{', '.join(map(str, self.layers))}, and `covariance.kind` is "
                '"statistics", which are of one layer. Take "corpus" or "samples".'
            )
        plan = CovariancePlan.of(self.plan, self.model)
        own = self.model.setup.model_id
        entries = [each for each in self.plan.models if each.setup.model_id == own]
        layers = {layer for each in entries for layer in ModelEditors(self.plan, each).layers}
        return tuple(
            dataclasses.replace(plan, moment=self._moment(layer), layers=tuple(sorted(layers)))
            for layer in self.layers
        )

    def own_moment(self, moments: Sequence[Manifest]) -> Manifest:
        """Return C of the layer that rank-one methods edit.

        Args:
            moments: what the jobs of ``covariance_plans`` returned.
        """
        return moments[self.layers.index(self.model.setup.layer)]

    @property
    def templates_job(self) -> TemplatesJob:
        """The job of the joint editors' context templates: five texts of ten tokens.

        Source: kmeng01/memit get_context_templates.
        """
        return self.model.templates.model_copy(
            update={"kind": "five_words", "lengths": ((10, 5),), "given": None}
        )

    def known_inputs(self) -> tuple[EditorInputs, ...]:
        """Return the inputs of each editor of which all is cached that they are made of."""
        templates = cached_manifest(self.model.templates)
        own = cached_manifest(self.templates_job)
        found = [cached_manifest(each.moment) for each in self.covariance_plans()]
        moments = [each for each in found if each is not None]
        if templates is None or own is None or len(moments) < len(found):
            return ()
        known = []
        for setup in self.setups:
            inputs = self.inputs(setup, templates, own, moments)
            job = self.lengths_job(inputs)
            if job is None:
                known.append(inputs)
                continue
            done = cached_manifest(job)
            if done is not None:
                known.append(inputs.with_length(job, done))
        return tuple(known)

    def inputs(
        self, setup: EditorSetup, templates: Manifest, own: Manifest, moments: Sequence[Manifest]
    ) -> EditorInputs:
        """Return what every job of an editor needs; NAS's mean length is put in later.

        Args:
            setup: the editor.
            templates: what the job of the study's templates returned.
            own: what ``templates_job`` returned.
            moments: what the jobs of ``covariance_plans`` returned.
        """
        model_id = self.model.setup.model_id
        plans = zip(self.covariance_plans(), moments, strict=True)
        by_layer = {
            each.moment.model.layer: LayerMoment(
                layer=each.moment.model.layer,
                covariance_id=each.moment.covariance_id,
                moment=done.tensors,
            )
            for each, done in plans
        }
        return EditorInputs(
            model=self.model.setup,
            editor=setup,
            method_templates=templates.values,
            method_template_set_id=template_set_id_of(model_id, templates.values),
            templates=own.values,
            template_set_id=template_set_id_of(model_id, own.values),
            moments=tuple(by_layer[layer] for layer in setup.layers(self.model.setup)),
            damping=self.plan.study.covariance.damping,
        )

    def layer_rows(self) -> list[StudyModelRow]:
        """Return what the study calls the model where editors edit it at other layers than its own.

        A layer that another entry of the same model has is that entry's.
        """
        plan, setup = self.plan, self.model.setup
        own = [each.setup for each in plan.models if each.setup.model_id == setup.model_id]
        last = {each.layers(setup)[-1] for each in self.setups}
        return [
            StudyModelRow(plan.study_id, setup.model_id, layer, setup.spec.name)
            for layer in sorted(last - {each.layer for each in own})
        ]

    def lengths_job(
        self, inputs: EditorInputs, targets: Sequence[Manifest] = ()
    ) -> LengthsJob | None:
        """Return the job of the mean length that an editor needs; None for most.

        Args:
            inputs: of the editor.
            targets: what its ``target_jobs`` returned; without them the job can be looked up.
        """
        settings = inputs.editor.joint
        if settings is None or not _needs_length(inputs.editor):
            return None
        records = self.plan.requests.records[: settings.norm_records]
        return LengthsJob(
            results=self.plan.results,
            inputs=inputs,
            requests=tuple(record.request for record in records),
            targets=tuple(each.tensors for each in targets if each.tensors is not None),
        )

    def length_targets(self, inputs: EditorInputs) -> list[TargetsJob]:
        """Return the jobs of z* that the mean length is taken over: of the first requests."""
        settings = inputs.editor.joint
        assert settings is not None
        n_batches = -(-settings.norm_records // self.plan.study.batch_size)
        return list(self.target_jobs(inputs))[:n_batches]

    def target_jobs(self, inputs: EditorInputs) -> Iterator[TargetsJob]:
        """Yield the jobs of z* on the unedited model, in the dataset's order; none for some."""
        plan, settings = self.plan, inputs.editor.joint
        if settings is None:
            return
        layer, values, passes = _targets_of(inputs.editor)
        for index in range(plan.n_batches):
            yield TargetsJob(
                results=plan.results,
                model=inputs.model,
                layer=layer,
                values=values,
                predicted_passes=passes,
                templates=inputs.templates,
                template_set_id=inputs.template_set_id,
                requests=tuple(record.request for record in plan.records_of(index)),
                batch_label=f"{index + 1} of {plan.n_batches}",
            )

    def batch_jobs(
        self, inputs: EditorInputs, targets: Sequence[Manifest] = ()
    ) -> Iterator[EditorBatchJob]:
        """Yield the jobs of an editor's single edits, in the dataset's order.

        Args:
            inputs: of the editor.
            targets: what its ``target_jobs`` returned; without them the jobs can be looked up, not
                run.
        """
        plan = self.plan
        for index in range(plan.n_batches):
            yield EditorBatchJob(
                results=plan.results,
                inputs=inputs,
                requests=tuple(record.request for record in plan.records_of(index)),
                targets=targets[index].tensors if targets else None,
                texts=plan.texts_ref,
                evaluation_id=plan.evaluation_id,
                seed=plan.study.seed,
                batch_index=index,
                batch_label=f"{index + 1} of {plan.n_batches}",
            )

    def sequences(self, inputs: EditorInputs) -> Iterator["ModelSequence"]:
        """Yield an editor's sequences: each number of edits a step, in each order."""
        spec = self.plan.study.sequence
        if spec is None or inputs.editor.name not in spec.editors:
            return
        for n_facts in spec.edits_per_step:
            for order in range(spec.orders):
                yield ModelSequence(self.plan, spec, inputs, order, n_facts)

    def _moment(self, layer: int) -> CovarianceJob:
        own = self.model.setup
        if layer == own.layer:
            return self.model.moment
        moved = own.model_copy(update={"layer": layer, "layer_source": EDITOR_LAYER})
        return self.model.moment.model_copy(update={"model": moved})

    def _setup(self, name: str) -> EditorSetup:
        if name in METHODS:
            return EditorSetup(name=name)
        model, files = self.model.setup, self.model.files
        settings = editor_settings(name, files.architecture.family, files.widths, model.layer)
        specs = [
            each
            for each in self.plan.study.editors
            if each.name == name and each.model in {None, model.spec.name}
        ]
        for spec in sorted(specs, key=lambda each: each.model is not None):
            settings = overridden(settings, spec)
        given = any(spec.layers is not None for spec in specs)
        if files.architecture.post_mlp_norm is not None and isinstance(settings, JointSettings):
            settings = _one_layer(settings, model, given=given)
        n_layers = files.widths.n_layers
        wrong = [layer for layer in settings.layers if layer >= n_layers]
        if wrong:
            raise StudyError(
                f"editor {name!r} of {model.spec.name} has layer {wrong[0]}, and the model has "
                f"layers 0 to {n_layers - 1}. Correct `layers`."
            )
        if isinstance(settings, GradientSettings):
            if len(settings.layers) > 1:
                raise StudyError(
                    f"editor {name!r} fine-tunes one layer, got `layers` {settings.layers}."
                )
            return EditorSetup(name=name, gradient=settings)
        return EditorSetup(name=name, joint=settings)


def _needs_length(setup: EditorSetup) -> bool:
    """Return whether an editor needs the mean length of a target value: NAS."""
    return isinstance(setup.row, JointEditor) and setup.row.target == "length of the mean"


def _targets_of(setup: EditorSetup) -> tuple[int, ValueSettings, int | None]:
    """Return what decides z* of a joint editor: editors with the same share it."""
    settings, row = setup.joint, setup.row
    assert settings is not None
    early = isinstance(row, JointEditor) and row.target == "until predicted"
    return settings.layers[-1], settings.values, settings.predicted_passes if early else None


def overridden(settings: EditorSettings, spec: EditorSpec) -> EditorSettings:
    """Return an editor's settings with those of a study file in their place.

    Raises:
        StudyError: the study file sets what the editor does not have.
    """
    asked = spec.model_dump(exclude_none=True, exclude={"name", "model"})
    if not asked:
        return settings
    row = EDITORS[spec.name]
    unknown = sorted(set(asked) - _settable(row))
    if unknown:
        raise StudyError(f"`editors`: {row.title} has no {', '.join(unknown)}. Leave it out.")
    values = {field.name for field in dataclasses.fields(ValueSettings)}
    update = asked
    if isinstance(settings, JointSettings):
        inner = {name: value for name, value in asked.items() if name in values}
        update = {name: value for name, value in asked.items() if name not in values}
        update["values"] = dataclasses.replace(settings.values, **inner)
    return dataclasses.replace(settings, **update, source=_OVERRIDES + settings.source)


def _settable(row: JointEditor | GradientEditor) -> set[str]:
    """Return the settings that an editor reads, as a study file names them."""
    if isinstance(row, GradientEditor):
        own = {"layers", "epochs", "learning_rate", "batch_size"}
        return own | ({"norm_bound"} if row.bounded else set())
    own = {"layers", "steps", "learning_rate", "weight_decay", "kl_factor", "clamp_factor"}
    own |= {"second_moment_weight"} if row.second_moment else set()
    own |= {"identity_weight"} if row.identity else set()
    own |= {"nullspace_threshold", "ridge"} if row.projected else set()
    own |= {"mask_share"} if row.masked else set()
    return own | ({"predicted_passes"} if row.target == "until predicted" else set())


def _one_layer(settings: JointSettings, model: ModelSetup, *, given: bool) -> JointSettings:
    """Return settings for a family with a norm behind the MLP, which take one layer."""
    if len(settings.layers) == 1:
        return settings
    if given:
        raise StudyError(
            f"joint editors of {model.spec.name} take one layer, and {len(settings.layers)} were "
            "asked for: a norm stands between its MLP and the residual stream, so that what is "
            "missing there cannot be spread over layers. Give `layers` with one."
        )
    return dataclasses.replace(settings, layers=settings.layers[-1:])


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

    @property
    def order_seed(self) -> int:
        """Seed of the order."""
        return self.plan.study.seed + self.order

    @property
    def label(self) -> str:
        """For people."""
        many = f", {self.edits_per_step} edits a step" if self.edits_per_step > 1 else ""
        return f"{self.inputs.editor.title}, order {self.order + 1}{many}"

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
            order_label=f"order {self.order + 1}",
        )

    def rows(self) -> tuple[SequenceRow, StudySequenceRow]:
        """Return the sequence, and its place in the study, as rows."""
        setup, model, guard = self.inputs.editor, self.inputs.model, self.spec.guard
        settings = model.values if setup.settings is None else setup.settings
        sequence = SequenceRow(
            sequence_id=self.sequence_id,
            model_id=model.model_id,
            editor=setup.name,
            layers=list(setup.layers(model)),
            settings_id=setup.settings_id(model),
            settings=json.dumps(canonical(settings), sort_keys=True),
            source=setup.source(model),
            order_seed=self.order_seed,
            edits_per_step=self.edits_per_step,
            evaluation_id=self.plan.evaluation_id,
            template_set_id=self.inputs.template_set_id,
            guard_policy=None if guard is None else guard.policy,
            guard_bound=None if guard is None else guard.text_change,
        )
        # Sequences of other numbers of edits a step are other curves.
        several = len(self.spec.edits_per_step) > 1
        name = f"{setup.name}, {self.edits_per_step} a step" if several else setup.name
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
