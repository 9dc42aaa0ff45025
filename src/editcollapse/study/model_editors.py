"""The editors of one model of a study: their settings, layers and C, single edits and sequences."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property

from editcollapse.catalog.editors import TEMPLATE_KIND, TEMPLATE_LENGTHS
from editcollapse.errors import StudyError
from editcollapse.rows.study import StudyModelRow
from editcollapse.study.editor_settings import EditedLayer, GivenSettings, editor_setup
from editcollapse.study.jobs import (
    CovarianceJob,
    Manifest,
    TemplatesJob,
    template_set_id_of,
)
from editcollapse.study.locks import cached_manifest
from editcollapse.study.plan import CovariancePlan, ModelPlan, StudyPlan
from editcollapse.study.sequence_jobs import (
    EditorBatchJob,
    EditorInputs,
    EditorSetup,
    LayerMoment,
    LengthsJob,
    TargetsJob,
)
from editcollapse.study.sequences import ModelSequence, chunks_of

EDITOR_LAYER = "editor's layer"
"""``layer_source`` of a layer that only an editor beyond rank one edits."""


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
        lengths = [each for each in self.setups if each.needs_mean_length]
        asked = [each for each in self.setups if each.name in single or each in lengths]
        # Editors that look for the same z* share it.
        kinds = {each.targets for each in asked if each.joint is not None}
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
        return len(spec.editors) * len(spec.restraints) * spec.orders * n_chunks

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
        """The job of the joint editors' context templates."""
        return self.model.templates.model_copy(
            update={"kind": TEMPLATE_KIND, "lengths": TEMPLATE_LENGTHS, "given": None}
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
        if settings is None or not inputs.editor.needs_mean_length:
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
        asked = inputs.editor.targets
        for index in range(plan.n_batches):
            yield TargetsJob(
                results=plan.results,
                model=inputs.model,
                layer=asked.layer,
                values=asked.values,
                predicted_passes=asked.predicted_passes,
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

    def sequences(self, inputs: EditorInputs) -> Iterator[ModelSequence]:
        """Yield an editor's sequences: number of edits a step, restraint, order."""
        spec = self.plan.study.sequence
        if spec is None or inputs.editor.name not in spec.editors:
            return
        for n_facts in spec.edits_per_step:
            for restraint in spec.restraints:
                for order in range(spec.orders):
                    yield ModelSequence(self.plan, spec, inputs, order, n_facts, restraint)

    def _setup(self, name: str) -> EditorSetup:
        model = self.model.setup
        specs = [
            each
            for each in self.plan.study.editors
            if each.name == name and each.model in {None, model.spec.name}
        ]
        # Those of one model go before those of all.
        specs.sort(key=lambda each: each.model is not None)
        given = GivenSettings(tuple(specs), "editors", "the study file")
        edited = EditedLayer.of(self.model.files, model.spec.name, model.layer)
        return editor_setup(name, edited, given)

    def _moment(self, layer: int) -> CovarianceJob:
        own = self.model.setup
        if layer == own.layer:
            return self.model.moment
        moved = own.model_copy(update={"layer": layer, "layer_source": EDITOR_LAYER})
        return self.model.moment.model_copy(update={"model": moved})
