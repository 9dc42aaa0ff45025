"""From a study to jobs: what is asked, by content. Reads files; touches no model and no GPU.

Entries of a study with the same model and other layers share one pass over the corpus: its jobs
have the same keys, so whichever entry comes first computes them.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from editcollapse import NUMERICS
from editcollapse.catalog.presets import preset_for
from editcollapse.config.spec import ROWS_AT_ONCE, GuardSpec, ModelSpec, StudySpec
from editcollapse.data.corpora import corpus_of
from editcollapse.data.datasets import read_requests, select
from editcollapse.data.requests import EditRequest, RequestFile, RequestRecord
from editcollapse.data.texts import TextSet, read_templates, read_texts, texts_file
from editcollapse.errors import ArtifactError, ModelError, MomentError, StudyError
from editcollapse.fingerprints import digest, digest_file
from editcollapse.forecast.defaults import default_thresholds
from editcollapse.forecast.guard import Guard
from editcollapse.forecast.verdicts import Thresholds
from editcollapse.models.files import ModelFiles, digest_model, locate_model
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import (
    Asker,
    CheckpointJob,
    CorpusJob,
    CovarianceJob,
    EditJob,
    EvaluateJob,
    Manifest,
    ModelSetup,
    ProbesJob,
    SamplesJob,
    ShardJob,
    TemplatesJob,
    UneditedJob,
    template_set_id_of,
)
from editcollapse.study.planned import KEPT
from editcollapse.study.results_folder import results_name

_CONSECUTIVE = 2
"""Checkpoints in a row whose change must be small."""


def checkpoints(n_shards: int) -> tuple[int, ...]:
    """Return the shard counts after which directions are compared: 1, 2, 4, 8, ..., ``n_shards``.

    Each compares with half the tokens, so a change means the same whatever the size of the shards;
    and a thousand shards take eleven solves.
    """
    doubled = [1 << power for power in range(n_shards.bit_length()) if 1 << power < n_shards]
    return (*doubled, n_shards)


def has_settled(changes: Sequence[float | None], stop_change: float) -> bool:
    """Return whether the last two changes are below a bound.

    Args:
        changes: largest change over the probes at each checkpoint so far; None where unknown.
        stop_change: the bound.
    """
    last = changes[-_CONSECUTIVE:]
    known = [change for change in last if change is not None and change < stop_change]
    return len(known) == _CONSECUTIVE


_TEXTS = "texts"
N_PROBES = 32
"""Requests whose prefixed keys C is followed with, at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model of a study, with what has to be prepared before its edits."""

    setup: ModelSetup
    files: ModelFiles
    templates: TemplatesJob
    moment: CovarianceJob
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
                    plan.setup.model_id,
                    plan.setup.layer,
                    plan.setup.values,
                    plan.templates.key,
                    plan.moment.covariance_id,
                    *(() if plan.guard is None else (plan.guard.identity,)),
                ]
                for plan in self.models
            ],
        )

    @property
    def asker(self) -> Asker:
        """The study as its jobs' provenance names it."""
        return Asker(study_id=self.study_id, study=self.study.name)

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

    def unedited_job(self, plan: ModelPlan) -> UneditedJob:
        """Return the job for the unedited model's perplexity."""
        return UneditedJob(
            results=self.results,
            model=plan.setup,
            texts=self.texts_ref,
            evaluation_id=self.evaluation_id,
        )

    def evaluate_job(self, edits: EditJob, done: Manifest) -> EvaluateJob:
        """Return the job that measures a batch.

        Args:
            edits: the batch.
            done: what its edit unit returned.

        Raises:
            ArtifactError: the manifest names no updates.
        """
        if done.tensors is None:
            raise ArtifactError(f"{done.unit_id} left no updates. Run the study again.")
        return EvaluateJob(
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

    def edit_jobs(
        self, plan: ModelPlan, templates: Manifest, moment: Manifest
    ) -> Iterator[EditJob]:
        """Yield one job a batch of one model, in the dataset's order, for its rank-one methods.

        Args:
            plan: the model.
            templates: what its templates unit returned.
            moment: what its covariance unit returned.
        """
        for index in range(self.n_batches):
            yield EditJob(
                results=self.results,
                model=plan.setup,
                methods=self.study.rank_one_methods,
                templates=templates.values,
                template_set_id=template_set_id_of(plan.setup.model_id, templates.values),
                covariance_id=plan.moment.covariance_id,
                damping=plan.moment.covariance.damping,
                moment=moment.tensors,
                requests=tuple(record.request for record in self.records_of(index)),
                batch_index=index,
                batch_label=f"{index + 1} of {self.n_batches}",
            )


Calibrated = Callable[[str], Thresholds]
"""Returns a model's thresholds, given its id."""


def _not_calibrated(_model_id: str) -> Thresholds:
    """Return the thresholds of a model of which nothing is known."""
    return default_thresholds()


@dataclasses.dataclass(frozen=True, slots=True)
class _Planned:
    """A plan that was made, and what it was asked for by."""

    study: StudySpec
    results: str
    is_calibrated: bool
    plan: StudyPlan


def plan_study(
    study: StudySpec,
    results: str | Path,
    thresholds_of: Calibrated = _not_calibrated,
) -> StudyPlan:
    """Return the plan of a study: every input read, checked and identified by content.

    In a block of ``cached_plans`` that is done once for a study and a results folder.

    Args:
        study: with absolute paths (``study_file.read_study``).
        results: path or URL of the results folder; nothing is written to it.
        thresholds_of: returns a model's thresholds, given its id; a guard acts by them where the
            study gives none. It is not called without such a guard.

    Raises:
        EditCollapseError: an input is missing or unusable; the message names it.
    """
    folder, is_calibrated = results_name(results), thresholds_of is not _not_calibrated
    plans = KEPT.get()
    for each in plans or ():
        if (each.study, each.results, each.is_calibrated) == (study, folder, is_calibrated):
            kept: StudyPlan = each.plan
            return kept
    plan = _plan(study, folder, thresholds_of)
    if plans is not None:
        plans.append(_Planned(study, folder, is_calibrated, plan))
    return plan


def _plan(study: StudySpec, folder: str, thresholds_of: Calibrated) -> StudyPlan:
    """Return the plan of a study; as ``plan_study``."""
    requests = read_requests(Path(study.dataset.path), study.dataset.fields)
    requests = select(requests, limit=study.dataset.limit, case_ids=study.dataset.case_ids)
    texts = read_texts(texts_file(study.evaluation))
    given = None
    if study.templates.kind == "file" and study.templates.path is not None:
        given = read_templates(Path(study.templates.path))
    probed = [record.request.request_id for record in requests.records[:N_PROBES]]
    models = tuple(_plan_model(study, spec, folder, given, probed) for spec in study.models)
    identities = [(plan.setup.model_id, plan.setup.layer) for plan in models]
    if len(set(identities)) != len(identities):
        raise StudyError(
            f"study {study.name!r} names the same model, layer, start token and chat template "
            f"twice among {[model.name for model in study.models]}. Remove one."
        )
    if study.guard is not None:
        models = tuple(_guarded(plan, study.guard, thresholds_of) for plan in models)
    return StudyPlan(study=study, results=folder, requests=requests, texts=texts, models=models)


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
    layer, layer_source = preset.layer_of(spec.layer, "study file")
    if not 0 <= layer < files.widths.n_layers:
        raise ModelError(
            f"layer {layer} of model {spec.name!r}: it has layers 0 to "
            f"{files.widths.n_layers - 1}. Correct `layer` in the study file."
        )
    setup = ModelSetup(
        spec=spec,
        model_id=digest_model(files, spec).model_id,
        layer=layer,
        layer_source=layer_source,
        values=spec.value.over(study.value.over(preset.values)),
    )
    templates = TemplatesJob(
        results=results,
        model=setup,
        kind=study.templates.kind,
        lengths=study.templates.lengths,
        seed=study.seed,
        given=given,
    )
    moment = CovarianceJob(
        results=results,
        model=setup,
        covariance=study.covariance,
        source_digest=_covariance_digest(study, spec),
        probe_set_id=digest("probes", templates.key, probed),
    )
    return ModelPlan(setup=setup, files=files, templates=templates, moment=moment)


def _guarded(plan: ModelPlan, spec: GuardSpec, thresholds_of: Calibrated) -> ModelPlan:
    """Return one model's part of the plan behind the study's guard."""
    own = spec.at_risk_at is not None
    calibrated = default_thresholds() if own else thresholds_of(plan.setup.model_id)
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
    if spec.kind == "samples":
        return digest("samples", study.seed)
    return corpus_of(spec).content_digest


@dataclasses.dataclass(frozen=True, slots=True)
class CovariancePlan:
    """How one layer's second moment C is computed: corpus, shards, probes, merge."""

    moment: CovarianceJob
    layers: tuple[int, ...]
    """All layers whose keys are summed in the same forwards."""
    requests: tuple[EditRequest, ...]
    """Their prefixed keys are the probes."""
    seed: int
    """Of the model's own samples."""

    @classmethod
    def of(cls, plan: StudyPlan, model: ModelPlan) -> "CovariancePlan":
        """Return the covariance plan of one model of a study."""
        own = model.setup.model_id
        layers = {each.setup.layer for each in plan.models if each.setup.model_id == own}
        records = plan.requests.records[:N_PROBES]
        return cls(
            moment=model.moment,
            layers=tuple(sorted(layers)),
            requests=tuple(record.request for record in records),
            seed=plan.study.seed,
        )

    @property
    def n_sample_jobs(self) -> int:
        """Jobs that write the model's own samples; 0 where C is of anything else."""
        return -(-self.moment.covariance.n_rows // ROWS_AT_ONCE)

    @property
    def n_shards_at_most(self) -> int:
        """Shards, if the corpus holds the whole budget."""
        spec = self.moment.covariance
        return max(2, -(-spec.n_tokens // spec.shard_tokens))

    def sample_jobs(self) -> tuple[SamplesJob, ...]:
        """Return the jobs that write the model's own samples, in order."""
        n_rows = self.moment.covariance.n_rows
        firsts = range(0, n_rows, ROWS_AT_ONCE)
        return tuple(
            SamplesJob(
                results=self.moment.results,
                model=self.moment.model,
                first_row=first,
                n_rows=min(ROWS_AT_ONCE, n_rows - first),
                row_tokens=self.moment.covariance.row_tokens,
                seed=self.seed,
                label=f"{index} of {len(firsts)}",
            )
            for index, first in enumerate(firsts, start=1)
        )

    def corpus_job(self, samples: Sequence[Manifest] = ()) -> CorpusJob:
        """Return the job that cuts the corpus into shards.

        Args:
            samples: what the jobs of the model's own samples returned.
        """
        return CorpusJob(
            results=self.moment.results,
            model=self.moment.model,
            covariance=self.moment.covariance,
            source_digest=self.moment.source_digest,
            samples=tuple(part for each in samples for part in each.parts),
        )

    def shard_jobs(self, corpus: Manifest) -> tuple[ShardJob, ...]:
        """Return the job of each shard's sums, given the corpus job's manifest."""
        return tuple(
            ShardJob(
                results=self.moment.results,
                model=self.moment.model,
                layers=self.layers,
                shard=shard,
                label=f"{index} of {len(corpus.parts)}",
            )
            for index, shard in enumerate(corpus.parts, start=1)
        )

    def probes_job(self, templates: Manifest) -> ProbesJob:
        """Return the job of the probe keys, given the templates job's manifest."""
        return ProbesJob(
            results=self.moment.results,
            model=self.moment.model,
            layers=self.layers,
            templates=templates.values,
            requests=self.requests,
            probe_set_id=self.moment.probe_set_id,
        )

    def checkpoint_job(
        self, sums: Sequence[Manifest], probes: Manifest, before: Manifest | None
    ) -> CheckpointJob:
        """Return the job of a checkpoint.

        Args:
            sums: the shards' manifests so far, in order.
            probes: the probes job's manifest.
            before: what the checkpoint before returned.
        """
        return CheckpointJob(
            results=self.moment.results,
            model=self.moment.model,
            covariance_id=self.moment.covariance_id,
            damping=self.moment.covariance.damping,
            probe_set_id=self.moment.probe_set_id,
            probes=self._own(probes),
            sums=tuple(self._own(each) for each in sums),
            before=None if before is None else before.tensors,
        )

    def merge_job(
        self, sums: Sequence[Manifest], probes: Manifest, looked_at: Sequence[Manifest] = ()
    ) -> CovarianceJob:
        """Return the job that merges the sums into C.

        Args:
            sums: the shards' manifests, in order.
            probes: the probes job's manifest.
            looked_at: what checkpoints returned; without any, C is followed while it is merged.
        """
        rows = [
            ref for each in looked_at for ref in each.rows if ref.table == "covariance_convergence"
        ]
        update = {
            "sums": tuple(self._own(each) for each in sums),
            "probes": None if looked_at else self._own(probes),
            "convergence": tuple(rows),
        }
        return self.moment.model_copy(update=update)

    def _own(self, manifest: Manifest) -> ArtifactRef:
        """Return the file of this layer among those of all layers."""
        if len(manifest.parts) != len(self.layers):
            raise ArtifactError(
                f"{manifest.unit_id} left {len(manifest.parts)} files for layers {self.layers}. "
                "Run the study again in another results folder."
            )
        return manifest.parts[self.layers.index(self.moment.model.layer)]
