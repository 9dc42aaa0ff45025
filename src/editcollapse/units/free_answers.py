"""The job of free answers: every edited model of a batch writes by itself what it answers.

All edits and prompts of a batch run together, each row with its own update
(``generate.Continuer``). The unedited model answers each prompt once.
"""

import dataclasses
from collections.abc import Sequence

import torch

from editcollapse.evaluation.fluency import ngram_entropy
from editcollapse.evaluation.free_answers import contains_match, cut_at_stop, exact_match
from editcollapse.evaluation.free_questions import FLUENCY, FreeQuestion, FreeQuestions
from editcollapse.forward.weight_changes import LayerChange, WeightChanges
from editcollapse.rome.edited_model import Updates
from editcollapse.rome.updates import RankOneUpdates, no_update
from editcollapse.rows.generation import GeneratedAnswerRow
from editcollapse.runtime.precision import float32_products
from editcollapse.study.answer_jobs import AnswersJob, EditToAnswer
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import Manifest
from editcollapse.units.edit import stored_updates
from editcollapse.units.generate import Continuer, Written
from editcollapse.units.prepare import Progress, load


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """One question to one edited model; edits with equal updates are asked once."""

    question: FreeQuestion
    edits: tuple[EditToAnswer, ...]
    update: int
    """Place of their update among those of the batch."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """The updates of a batch's edits, each once."""

    updates: Updates
    edits: tuple[tuple[EditToAnswer, ...], ...]
    """Of each update, the edits that have it."""
    layer: int
    """The lowest that is edited."""


@float32_products()
def answer_freely(job: AnswersJob, on_token: Progress = None) -> Manifest:
    """Return rows of what a batch's edited models, and the unedited one, answer freely.

    Args:
        job: the batch.
        on_token: called with tokens that are written and the most there can be, of one pass.

    Raises:
        ArtifactError: the updates' file is missing or has changed.
        ModelError: the model cannot be loaded.
        DeviceMemoryError: one text alone does not fit on the device.
    """
    clock = job.clock("answers", job.model)
    store = ArtifactStore(job.results)
    loaded = load(job.model)
    batch = _batch_of(store, job)
    spec = job.generation
    questions = FreeQuestions(loaded.encoder, spec)
    requests = {request.request_id: request for request in job.requests}
    own = {name: questions.of(request) for name, request in requests.items()}
    asked = [
        _Asked(question, edits, place)
        for place, edits in enumerate(batch.edits)
        for question in own[edits[0].request_id]
    ]
    continuer = Continuer(loaded, batch.layer, spec.n_tokens, spec.stops)
    rows = _answer_rows(job, continuer, asked, batch, on_token)
    if spec.fluency_tokens:
        asked = [
            _Asked(questions.fluency(requests[edits[0].request_id]), edits, place)
            for place, edits in enumerate(batch.edits)
        ]
        longer = Continuer(loaded, batch.layer, spec.fluency_tokens)
        rows += _answer_rows(job, longer, asked, batch, on_token)
    summary = f"{len(rows)} answers written by {len(job.edits)} edited models of {job.label}"
    provenance = clock.row(summary, len(rows), str(loaded.device))
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("generated_answers", rows),
            store.put_rows("generation_settings", [job.settings_row]),
            store.put_rows("provenance", [provenance]),
        ),
    )


def _answer_rows(
    job: AnswersJob,
    continuer: Continuer,
    asked: Sequence[_Asked],
    batch: _Batch,
    on_token: Progress,
) -> list[GeneratedAnswerRow]:
    """Return a row for each question to each edit."""
    rows: list[tuple[int, ...]] = []
    owner: list[int] = []
    for each in asked:
        if each.question.ids is not None:
            rows.append(each.question.ids)
            owner.append(each.update)
    distinct = list(dict.fromkeys(rows))
    nothing = no_update(continuer.loaded.widths)
    unedited = continuer.written(distinct, nothing, [0] * len(distinct), on_token)
    before = dict(zip(distinct, unedited, strict=True))
    after = iter(continuer.written(rows, batch.updates, owner, on_token))
    found: list[GeneratedAnswerRow] = []
    for each in asked:
        row = _unanswered(job, each)
        ids = each.question.ids
        if ids is not None:
            row = _answered(row, continuer, ids, before[ids], next(after), job.generation.stops)
        found += [dataclasses.replace(row, edit_id=edit.edit_id) for edit in each.edits]
    return found


def _unanswered(job: AnswersJob, asked: _Asked) -> GeneratedAnswerRow:
    """Return the row of a question without an answer."""
    question = asked.question
    return GeneratedAnswerRow(
        edit_id=asked.edits[0].edit_id,
        generation_id=job.generation_id,
        context=question.context,
        probe=question.probe,
        prompt_index=question.prompt_index,
        prompt=question.prompt,
        target=question.target,
        text=None,
        text_before=None,
        n_tokens=None,
        n_tokens_before=None,
        stopped_by=None,
        exact_match=None,
        exact_match_before=None,
        contains_match=None,
        contains_match_before=None,
        same_tokens=None,
        ngram_entropy=None,
        ngram_entropy_before=None,
        reason=question.reason,
    )


def _answered(
    row: GeneratedAnswerRow,
    continuer: Continuer,
    ids: tuple[int, ...],
    before: Written,
    after: Written,
    stops: Sequence[str],
) -> GeneratedAnswerRow:
    """Return a row with what the unedited and the edited model have written behind some tokens."""
    is_fluency = row.probe == FLUENCY
    text, text_before = (
        whole if is_fluency else cut_at_stop(whole, stops)
        for whole in (continuer.decoded(ids, after.ids), continuer.decoded(ids, before.ids))
    )
    return dataclasses.replace(
        row,
        text=text,
        text_before=text_before,
        n_tokens=len(after.ids),
        n_tokens_before=len(before.ids),
        stopped_by=after.stopped_by,
        exact_match=exact_match(text, row.target),
        exact_match_before=exact_match(text_before, row.target),
        contains_match=contains_match(text, row.target),
        contains_match_before=contains_match(text_before, row.target),
        same_tokens=after.ids == before.ids,
        ngram_entropy=ngram_entropy(row.prompt + text) if is_fluency else None,
        ngram_entropy_before=ngram_entropy(row.prompt + text_before) if is_fluency else None,
    )


def _batch_of(store: ArtifactStore, job: AnswersJob) -> _Batch:
    """Return the stored updates of a job's edits."""
    places: dict[tuple[str | None, int], list[EditToAnswer]] = {}
    for edit in job.edits:
        places.setdefault((edit.method, edit.update_row), []).append(edit)
    edits = tuple(map(tuple, places.values()))
    if all(method is None for method, _ in places):
        changes = _stored_changes(store, job).rows(torch.tensor([row for _, row in places]))
        return _Batch(changes, edits, changes.lowest)
    stored = stored_updates(store, job.updates)
    found = [stored[str(method)].rows(slice(row, row + 1)) for method, row in places]
    joined = RankOneUpdates(
        torch.cat([each.left for each in found]), torch.cat([each.right for each in found])
    )
    return _Batch(joined, edits, job.model.layer)


def _stored_changes(store: ArtifactStore, job: AnswersJob) -> WeightChanges:
    """Return the factors of a batch of edits by an editor beyond rank one."""
    tensors = store.tensors(job.updates)
    layers = sorted(int(name.removeprefix("left.")) for name in tensors if name.startswith("left."))
    return WeightChanges(
        tuple(
            LayerChange(layer, tensors[f"left.{layer}"], tensors[f"right.{layer}"])
            for layer in layers
        )
    )
