"""The job that asks a downstream task of a model: an update is in its weights for so long."""

import contextlib
from contextlib import AbstractContextManager

from editcollapse.data.harness_tasks import HarnessTask
from editcollapse.evaluation.downstream import SEED, HarnessSettings, TaskScore, score_task
from editcollapse.models.loading import LoadedModel, resident_model
from editcollapse.rows.downstream import DownstreamScoreRow
from editcollapse.runtime.precision import float32_products
from editcollapse.runtime.settings import settings
from editcollapse.stored.reading import read_edit, read_sequence
from editcollapse.stored.weights import in_weights
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.downstream_jobs import DownstreamJob
from editcollapse.study.jobs import Manifest
from editcollapse.units.prepare import Progress


@float32_products()
def score_downstream(job: DownstreamJob, on_request: Progress = None) -> Manifest:
    """Return the scores of a task on a model as rows.

    The resident model is written to and put back bit by bit: nothing is copied, and no file of
    weights is made.

    Args:
        job: the task and the model.
        on_request: called with requests that are answered, and all of them.

    Raises:
        StudyError: lm_eval is not installed, or has no such task.
        DatasetError: lm_eval cannot make the task.
        ResultsError: the update was not stored.
        ArtifactError: a file of the update or of the task is missing or has changed.
        ModelError: the model cannot be loaded, or is another one.
        DeviceMemoryError: a batch does not fit on the device.
    """
    clock = job.provenance(SEED)
    store = ArtifactStore(job.results)
    content = None if job.task.content is None else str(store.json(job.task.content))
    spec = job.model.spec
    loaded = resident_model(spec, job.model.model_id, settings().device)
    asked = HarnessSettings(
        limit=job.limit,
        n_shot=job.n_shot,
        start_token=spec.start_token,
        chat_template=spec.chat_template,
    )
    with _edited(store, loaded, job):
        scores = score_task(loaded, HarnessTask(job.task.name, content), asked, on_request)
    rows = [_row(job, score) for score in scores]
    summary = f"{job.label}: {_said(scores)}"
    provenance = clock.row(
        summary, max((s.n_samples for s in scores), default=0), str(loaded.device)
    )
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("downstream_scores", rows),
            store.put_rows("provenance", [provenance]),
        ),
    )


def _edited(
    store: ArtifactStore, loaded: LoadedModel, job: DownstreamJob
) -> AbstractContextManager[object]:
    """Return what holds the job's update in the model's weights; nothing where there is none."""
    model = job.model
    if model.edit is not None:
        return in_weights(loaded.model, read_edit(store, model.edit))
    if model.sequence is not None:
        update = read_sequence(store, model.sequence, model.step, loaded.weight)
        return in_weights(loaded.model, update)
    return contextlib.nullcontext()


def _row(job: DownstreamJob, score: TaskScore) -> DownstreamScoreRow:
    model = job.model
    return DownstreamScoreRow(
        score_set_id=job.score_set_id,
        task=score.task,
        metric=score.metric,
        filter=score.filter,
        model_id=model.model_id,
        kind=model.kind,
        edit_id=None if model.edit is None else model.edit.edit_id,
        sequence_id=None if model.sequence is None else model.sequence.sequence_id,
        step=model.step,
        label=model.label,
        asked_task=job.task.name,
        task_digest=job.task.digest,
        task_version=score.version,
        value=score.value,
        stderr=score.stderr,
        higher_is_better=score.higher_is_better,
        n_samples=score.n_samples,
        n_without_answer=score.n_without_answer,
        n_shot=score.n_shot,
        sample_limit=job.limit,
        chat_template=model.spec.chat_template,
        harness_version=job.harness_version,
    )


def _said(scores: tuple[TaskScore, ...]) -> str:
    """Return the first score in words."""
    if not scores:
        return "no score"
    first = scores[0]
    value = "no number" if first.value is None else f"{first.value:.4g}"
    return f"{first.metric} {value}"
