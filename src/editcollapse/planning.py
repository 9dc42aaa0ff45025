"""From a study to orders: what is asked, by content. Reads files; touches no model and no GPU."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from editcollapse import NUMERICS
from editcollapse.artifacts import ArtifactRef, ArtifactStore
from editcollapse.corpora import open_corpus
from editcollapse.datasets import read_requests, select
from editcollapse.errors import ArtifactError, ModelError, MomentError, StudyError
from editcollapse.fingerprints import digest, digest_file
from editcollapse.guard_specs import GuardSpec
from editcollapse.guarding import Guard
from editcollapse.model_files import ModelFiles, digest_model, locate_model
from editcollapse.moment_orders import MomentOrder
from editcollapse.orders import (
    EditOrder,
    EvaluateOrder,
    Manifest,
    ModelOrder,
    TemplatesOrder,
    UneditedOrder,
    template_set_id_of,
)
from editcollapse.places import place_name
from editcollapse.presets import preset_for
from editcollapse.requests import RequestFile, RequestRecord
from editcollapse.specs import ModelSpec, StudySpec
from editcollapse.template_files import read_templates
from editcollapse.texts import TextSet, read_texts
from editcollapse.verdicts import DEFAULT_THRESHOLDS, Thresholds

_TEXTS = "texts"
N_PROBES = 32
"""Requests whose prefixed keys C is followed with, at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model of a study, with what has to be prepared before its edits."""

    order: ModelOrder
    files: ModelFiles
    templates: TemplatesOrder
    moment: MomentOrder
    guard: Guard | None = None
    """What decides on the edits that are asked for; None where all are made."""


@dataclasses.dataclass(frozen=True)
class StudyPlan:
    """A study whose inputs have been read and identified."""

    study: StudySpec
    results: str
    """Absolute path or URL of the results folder."""
    requests: RequestFile
    texts: TextSet
    models: tuple[ModelPlan, ...]

    @cached_property
    def evaluation_id(self) -> str:
        """Digest of what edited models are measured on."""
        return digest("evaluation", self.chosen_texts, self.study.seed)

    @property
    def chosen_texts(self) -> tuple[str, ...]:
        """The perplexity texts that the study uses."""
        return self.texts.texts[: self.study.evaluation.max_texts]

    @cached_property
    def study_id(self) -> str:
        """Digest of the study by content: the same on another machine or in another folder."""
        return digest(
            "study",
            NUMERICS,
            self.study.name,
            self.study.methods,
            self.study.seed,
            self.requests.content_digest,
            [record.request.request_id for record in self.requests.records],
            self.evaluation_id,
            [
                [
                    plan.order.model_id,
                    plan.order.layer,
                    plan.order.values,
                    plan.templates.key,
                    plan.moment.covariance_id,
                    *(() if plan.guard is None else (plan.guard.identity,)),
                ]
                for plan in self.models
            ],
        )

    @property
    def n_batches(self) -> int:
        """Edit batches for each model."""
        return -(-len(self.requests.records) // self.study.batch_size)

    @property
    def n_edits(self) -> int:
        """Models times methods times requests: the edits that are asked for."""
        return len(self.models) * len(self.study.methods) * len(self.requests.records)

    def store_texts(self, store: ArtifactStore) -> ArtifactRef:
        """Write the perplexity texts where every worker of the results folder can read them."""
        return store.put_json(_TEXTS, list(self.chosen_texts))

    @cached_property
    def texts_ref(self) -> ArtifactRef:
        """The reference that ``store_texts`` returns; nothing is written."""
        return ArtifactStore(self.results).json_ref(_TEXTS, list(self.chosen_texts))

    def unedited_order(self, plan: ModelPlan) -> UneditedOrder:
        """Return the order for the unedited model's perplexity."""
        return UneditedOrder(
            results=self.results,
            model=plan.order,
            texts=self.texts_ref,
            evaluation_id=self.evaluation_id,
        )

    def evaluate_order(self, edits: EditOrder, done: Manifest) -> EvaluateOrder:
        """Return the order that measures a batch.

        Args:
            edits: the batch.
            done: what its edit unit returned.

        Raises:
            ArtifactError: the manifest names no updates.
        """
        if done.tensors is None:
            raise ArtifactError(f"{done.unit_id} left no updates. Run the study again.")
        return EvaluateOrder(
            results=edits.results,
            edits=edits,
            updates=done.tensors,
            texts=self.texts_ref,
            evaluation_id=self.evaluation_id,
            seed=self.study.seed,
            skipped=tuple(request_id for request_id, _ in done.unusable),
        )

    def records_of(self, batch_index: int) -> tuple[RequestRecord, ...]:
        """Return the records of one batch, in the dataset's order."""
        start = batch_index * self.study.batch_size
        return self.requests.records[start : start + self.study.batch_size]

    def edit_orders(
        self, plan: ModelPlan, templates: Manifest, moment: Manifest
    ) -> Iterator[EditOrder]:
        """Yield one order a batch of one model, in the dataset's order.

        Args:
            plan: the model.
            templates: what its templates unit returned.
            moment: what its covariance unit returned.
        """
        for index in range(self.n_batches):
            yield EditOrder(
                results=self.results,
                model=plan.order,
                methods=self.study.methods,
                templates=templates.values,
                template_set_id=template_set_id_of(plan.order.model_id, templates.values),
                covariance_id=plan.moment.covariance_id,
                damping=plan.moment.covariance.damping,
                moment=moment.tensors,
                requests=tuple(record.request for record in self.records_of(index)),
                batch_index=index,
                batch_label=f"{index + 1} of {self.n_batches}",
            )


def plan_study(
    study: StudySpec,
    results: str | Path,
    thresholds_of: Callable[[str], Thresholds] = lambda _model_id: DEFAULT_THRESHOLDS,
) -> StudyPlan:
    """Return the plan of a study: every input read, checked and identified by content.

    Args:
        study: with absolute paths (``study_files.read_study``).
        results: path or URL of the results folder; nothing is written to it.
        thresholds_of: returns a model's thresholds, given its id; a guard acts by them where the
            study gives none. It is not called without such a guard.

    Raises:
        EditCollapseError: an input is missing or unusable; the message names it.
    """
    place = place_name(results)
    requests = read_requests(Path(study.dataset.path))
    requests = select(requests, limit=study.dataset.limit, case_ids=study.dataset.case_ids)
    texts = read_texts(Path(study.evaluation.texts))
    given = None
    if study.templates.kind == "file" and study.templates.path is not None:
        given = read_templates(Path(study.templates.path))
    probed = [record.request.request_id for record in requests.records[:N_PROBES]]
    models = tuple(_plan_model(study, spec, place, given, probed) for spec in study.models)
    identities = [(plan.order.model_id, plan.order.layer) for plan in models]
    if len(set(identities)) != len(identities):
        raise StudyError(
            f"study {study.name!r} names the same model, layer and start token twice among "
            f"{[model.name for model in study.models]}. Remove one."
        )
    if study.guard is not None:
        models = tuple(_guarded(plan, study.guard, thresholds_of) for plan in models)
    return StudyPlan(study=study, results=place, requests=requests, texts=texts, models=models)


def _plan_model(
    study: StudySpec,
    spec: ModelSpec,
    results: str,
    given: tuple[str, ...] | None,
    probed: list[str],
) -> ModelPlan:
    """Return one model's part of the plan; ``probed`` are ids of requests."""
    files = locate_model(spec.source, spec.revision)
    preset = preset_for(spec.preset, files.architecture.family, files.widths)
    layer = preset.layer if spec.layer is None else spec.layer
    if not 0 <= layer < files.widths.n_layers:
        raise ModelError(
            f"layer {layer} of model {spec.name!r}: it has layers 0 to "
            f"{files.widths.n_layers - 1}. Correct `layer` in the study file."
        )
    order = ModelOrder(
        spec=spec,
        model_id=digest_model(files, spec).model_id,
        layer=layer,
        layer_source=preset.source if spec.layer in {None, preset.layer} else "study file",
        values=spec.value.over(study.value.over(preset.values)),
    )
    templates = TemplatesOrder(
        results=results,
        model=order,
        kind=study.templates.kind,
        lengths=study.templates.lengths,
        seed=study.seed,
        given=given,
    )
    moment = MomentOrder(
        results=results,
        model=order,
        covariance=study.covariance,
        source_digest=_covariance_digest(study, spec),
        probe_set_id=digest("probes", templates.key, probed),
    )
    return ModelPlan(order=order, files=files, templates=templates, moment=moment)


def _guarded(
    plan: ModelPlan, spec: GuardSpec, thresholds_of: Callable[[str], Thresholds]
) -> ModelPlan:
    """Return one model's part of the plan behind the study's guard."""
    own = spec.at_risk_at is not None
    calibrated = DEFAULT_THRESHOLDS if own else thresholds_of(plan.order.model_id)
    return dataclasses.replace(plan, guard=Guard.of(spec, calibrated))


def _covariance_digest(study: StudySpec, model: ModelSpec) -> str:
    """Return the digest of what the second moment is made from."""
    spec = study.covariance
    if spec.kind == "identity":
        return ""
    if spec.kind == "statistics":
        path = Path(str(model.statistics))
        if not path.is_file():
            raise MomentError(
                f"no statistics file {path} for model {model.name!r}. Give an .npz of "
                "kmeng01/rome's layer statistics or a .safetensors file."
            )
        return digest_file(path)
    corpus = open_corpus(
        str(spec.source), text_field=spec.text_field, subset=spec.subset, split=spec.split
    )
    return corpus.content_digest
