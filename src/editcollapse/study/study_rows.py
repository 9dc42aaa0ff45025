"""The rows that describe a study itself: its settings, dataset, requests and evaluation."""

import json
from collections.abc import Iterator
from typing import Any, Literal

from editcollapse import NUMERICS
from editcollapse.config.study_file import without_paths
from editcollapse.data.requests import EditRequest, RequestFile, RequestRecord
from editcollapse.fingerprints import canonical, unit_key
from editcollapse.rows.collapse_rule import DEFAULT_RULE
from editcollapse.rows.study import (
    DatasetRow,
    EvaluationRow,
    RejectionRow,
    RequestRow,
    StudyModelRow,
    StudyRow,
    ValueSettingsRow,
)
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import Asker, Job, Manifest, ModelSetup
from editcollapse.study.locks import cached_or_computed
from editcollapse.study.plan import StudyPlan

StudyKind = Literal["study", "single edit", "reevaluation"]
"""What a study was run as: ``studies.kind``."""


class FirstRunJob(Job):
    """Record that a study is run, as what, and when for the first time."""

    asked_by: Asker
    kind: StudyKind
    n_edits: int
    """Edits that it asks for; not part of the key."""
    seed: int

    @property
    def key(self) -> str:
        """Cache key of the job: one run as a study and one as a re-evaluation are two."""
        return unit_key("study", self.asked_by.study_id, self.kind)


def first_run(plan: StudyPlan, kind: StudyKind) -> Manifest:
    """Return the record of a study's first run; written once, whatever its jobs find cached.

    Raises:
        ResultsError: the results folder cannot be written.
    """
    job = FirstRunJob(
        results=plan.results,
        asked_by=plan.asker,
        kind=kind,
        n_edits=plan.n_edits,
        seed=plan.study.seed,
    )
    return cached_or_computed(job, lambda: _recorded(job))


def _recorded(job: FirstRunJob) -> Manifest:
    summary = f"{job.kind} {job.asked_by.study}: first run"
    row = job.clock(job.kind, None, job.seed).row(summary, job.n_edits, "none")
    rows = ArtifactStore(job.results).put_rows("provenance", [row])
    return Manifest(unit_id=job.key, summary=summary, rows=(rows,))


def study_rows(plan: StudyPlan) -> list[tuple[str, list[object]]]:
    """Return the rows that describe the study itself, by table."""
    settings = {model.setup.settings_id: model.setup for model in plan.models}
    return [
        ("studies", [_study_row(plan)]),
        ("study_models", list(_model_rows(plan))),
        (
            "datasets",
            [dataset_row(plan.requests, plan.requests.content_digest, plan.requests.name)],
        ),
        ("requests", list(_request_rows(plan))),
        ("rejections", list(_rejection_rows(plan))),
        ("evaluations", [_evaluation_row(plan)]),
        (
            "value_settings",
            [_settings_row(key, setup) for key, setup in settings.items()],
        ),
    ]


def _study_row(plan: StudyPlan) -> StudyRow:
    return StudyRow(
        study_id=plan.study_id,
        name=plan.study.name,
        description=plan.study.description,
        dataset_id=plan.requests.content_digest,
        evaluation_id=plan.evaluation_id,
        seed=plan.study.seed,
        numerics=NUMERICS,
        settings=json.dumps(_settings(plan), sort_keys=True),
    )


def _settings(plan: StudyPlan) -> Any:
    """Return the study as plain data: nothing of the machine, nor of where its tasks ran.

    Nor where it is tracked, how many texts were continued, nor what was answered freely: tables
    ``continuations``, ``generation_settings`` and ``judges`` have them, and no id depends on it.
    """
    settings = canonical(without_paths(plan.study))
    del settings["runner"], settings["tracking"]
    for name in ("continuations", "generation", "judge"):
        del settings["evaluation"][name]
    for model in settings["models"]:
        if not model["chat_template"]:  # as the studies of before it was there
            del model["chat_template"]
    if settings["guard"] is None:  # as the studies of before it was there
        del settings["guard"]
    if not settings["editors"]:
        del settings["editors"]
    if settings["sequence"] is None:
        del settings["sequence"]
    if settings["dataset"]["fields"] is None:
        del settings["dataset"]["fields"]
    if plan.study.collapse.rule == DEFAULT_RULE:
        del settings["collapse"]
    return settings


def _model_rows(plan: StudyPlan) -> Iterator[StudyModelRow]:
    for model in plan.models:
        setup = model.setup
        yield StudyModelRow(plan.study_id, setup.model_id, setup.layer, setup.spec.name)


def dataset_row(requests: RequestFile, dataset_id: str, name: str) -> DatasetRow:
    """Return a file of edit requests as a row."""
    return DatasetRow(
        dataset_id=dataset_id,
        name=name,
        schema_name=requests.schema,
        n_records=requests.n_records,
        n_requests=requests.n_records - len(requests.rejections),
        n_rejected=len(requests.rejections),
    )


def request_row(record: RequestRecord, request: EditRequest, dataset_id: str) -> RequestRow:
    """Return a request as a row of a dataset.

    Args:
        record: where it comes from.
        request: the record's own, or one that was made of it.
        dataset_id: of the dataset.
    """
    return RequestRow(
        request_id=request.request_id,
        dataset_id=dataset_id,
        record_index=record.record_index,
        case_id=record.case_id,
        subject=request.subject,
        prompt=request.prompt,
        target_new=request.target_new,
        target_true=request.target_true,
        relation_id=request.relation_id,
        n_paraphrase_prompts=len(request.paraphrase_prompts),
        n_neighborhood_prompts=len(request.neighborhood_pairs),
    )


def _request_rows(plan: StudyPlan) -> Iterator[RequestRow]:
    for record in plan.requests.records:
        yield request_row(record, record.request, plan.requests.content_digest)


def _rejection_rows(plan: StudyPlan) -> Iterator[RejectionRow]:
    for rejection in plan.requests.rejections:
        yield RejectionRow(
            dataset_id=plan.requests.content_digest,
            model_id="",
            record_index=rejection.record_index,
            case_id=rejection.case_id,
            reason=rejection.reason,
        )


def _evaluation_row(plan: StudyPlan) -> EvaluationRow:
    return EvaluationRow(
        evaluation_id=plan.evaluation_id,
        text_set=plan.texts.name,
        text_set_digest=plan.texts.content_digest,
        n_texts=len(plan.chosen_texts),
        n_texts_rejected=len(plan.texts.rejections),
        seed=plan.study.seed,
    )


def _settings_row(settings_id: str, setup: ModelSetup) -> ValueSettingsRow:
    values = setup.values
    return ValueSettingsRow(
        settings_id=settings_id,
        steps=values.steps,
        learning_rate=values.learning_rate,
        weight_decay=values.weight_decay,
        kl_factor=values.kl_factor,
        clamp_factor=values.clamp_factor,
        stop_loss=values.stop_loss,
        source=setup.layer_source,
    )
