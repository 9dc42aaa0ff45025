"""The editors and sequences of a study as jobs: orders, chunks of steps, checkpoints."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property

from editcollapse.catalog.editor_presets import (
    EditorSettings,
    GradientSettings,
    JointSettings,
    editor_settings,
)
from editcollapse.catalog.editors import EDITORS, JointEditor
from editcollapse.catalog.methods import METHODS
from editcollapse.config.sequence import EditorSpec, SequenceSpec
from editcollapse.data.requests import EditRequest
from editcollapse.errors import StudyError
from editcollapse.study.jobs import Manifest, ModelSetup, TemplatesJob, template_set_id_of
from editcollapse.study.plan import N_PROBES, CovariancePlan, ModelPlan, StudyPlan
from editcollapse.study.sequence_jobs import (
    EditorBatchJob,
    EditorInputs,
    EditorSetup,
    LayerMoment,
    LengthsJob,
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
        records = self.plan.requests.records[:N_PROBES]
        requests = tuple(record.request for record in records)
        return tuple(
            CovariancePlan(self._moment(layer), self.layers, requests, study.seed)
            for layer in self.layers
        )

    @property
    def templates_job(self) -> TemplatesJob:
        """The job of the joint editors' context templates: five texts of ten tokens.

        Source: kmeng01/memit get_context_templates.
        """
        return self.model.templates.model_copy(
            update={"kind": "five_words", "lengths": ((10, 5),), "given": None}
        )

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

    def lengths_job(self, inputs: EditorInputs) -> LengthsJob | None:
        """Return the job of the mean length that an editor needs; None for most."""
        row, settings = inputs.editor.row, inputs.editor.joint
        if not isinstance(row, JointEditor) or row.target != "length of the mean":
            return None
        assert settings is not None
        records = self.plan.requests.records[: settings.norm_records]
        return LengthsJob(
            results=self.plan.results,
            inputs=inputs,
            requests=tuple(record.request for record in records),
        )

    def batch_jobs(self, inputs: EditorInputs) -> Iterator[EditorBatchJob]:
        """Yield the jobs of an editor's single edits, in the dataset's order."""
        plan = self.plan
        for index in range(plan.n_batches):
            yield EditorBatchJob(
                results=plan.results,
                inputs=inputs,
                requests=tuple(record.request for record in plan.records_of(index)),
                probe_templates=inputs.method_templates,
                texts=plan.texts_ref,
                evaluation_id=plan.evaluation_id,
                seed=plan.study.seed,
                batch_index=index,
                batch_label=f"{index + 1} of {plan.n_batches}",
            )

    def sequences(self, inputs: EditorInputs) -> Iterator["Sequence_"]:
        """Yield an editor's sequences: each number of edits a step, in each order."""
        spec = self.plan.study.sequence
        if spec is None or inputs.editor.name not in spec.editors:
            return
        requests = tuple(record.request for record in self.plan.requests.records)
        for n_facts in spec.edits_per_step:
            for order in range(spec.orders):
                seed = self.plan.study.seed + order
                yield Sequence_(self.plan, spec, inputs, seed, order, n_facts, requests)

    def _moment(self, layer: int) -> "CovarianceJobLike":
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
            settings = _one_layer(settings, given, model)
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


def overridden(settings: EditorSettings, spec: EditorSpec) -> EditorSettings:
    """Return an editor's settings with those of a study file in their place.

    Raises:
        StudyError: the study file sets what the editor does not have.
    """
    asked = spec.model_dump(exclude_none=True, exclude={"name", "model"})
    if not asked:
        return settings
    own = {field.name for field in dataclasses.fields(settings)}
    update = {name: value for name, value in asked.items() if name in own}
    if isinstance(settings, JointSettings):
        values = {field.name for field in dataclasses.fields(settings.values)}
        inner = {name: value for name, value in asked.items() if name in values}
        update["values"] = dataclasses.replace(settings.values, **inner)
        own |= values
    unknown = sorted(set(asked) - own)
    if unknown:
        title = EDITORS[spec.name].title
        raise StudyError(f"`editors`: {title} has no {', '.join(unknown)}. Leave it out.")
    return dataclasses.replace(settings, **update, source=_OVERRIDES + settings.source)


def _one_layer(settings: JointSettings, given: bool, model: ModelSetup) -> JointSettings:
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


@dataclasses.dataclass(frozen=True)
class Sequence_:  # noqa: N801
    """One model, one editor, one order of the requests."""

    plan: StudyPlan
    spec: SequenceSpec
    inputs: EditorInputs
    order_seed: int
    order: int
    """From 0."""
    edits_per_step: int
    requests: tuple[EditRequest, ...]
    """In the dataset's order."""
