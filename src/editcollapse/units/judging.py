"""The job of a judge: free answers of one batch, judged one by one; an answer is sent once."""

from collections.abc import Callable
from typing import Any

from editcollapse.config.generation import FreeProbe
from editcollapse.evaluation.judge import Judge, Judgement
from editcollapse.rows.frames import rows_of
from editcollapse.rows.generation import GeneratedAnswerRow, JudgedAnswerRow, JudgeRow
from editcollapse.study.answer_jobs import JudgeJob
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import Manifest
from editcollapse.units.prepare import Progress

_JUDGED: tuple[FreeProbe, ...] = ("rewrite", "paraphrase", "portability")
"""Probes whose answer is to say the target; locality is about the tokens."""
_GIVES_UP_AFTER = 3
"""Answers in a row without a reply, after which a judge is not asked any more."""


def judge_answers(
    job: JudgeJob,
    on_answer: Progress = None,
    judge_of: Callable[[Any], Judge] = Judge,
) -> Manifest:
    """Return rows of what a judge says of a batch's answers.

    Answers without a text or a target are not judged. A judge that fails leaves NULL; after three
    failures in a row the rest is left open too. ``Manifest.values`` then says how many are open,
    and the next run asks for them again.

    Args:
        job: the answers, and the judge.
        on_answer: called with answers judged and all of them.
        judge_of: makes the judge.

    Raises:
        ArtifactError: a row file is missing or has changed.
        StudyError: the key would travel unencrypted.
    """
    clock = job.clock("judged", None)
    store = ArtifactStore(job.results)
    answers: list[GeneratedAnswerRow] = [
        row
        for ref in job.answers
        for row in rows_of("generated_answers", store.frame(ref))
        if row.probe in _JUDGED and row.text is not None and row.target is not None
    ]
    known = _replied(store, job, answers)
    judge = judge_of(job.judge)
    n_failed = 0
    for done, texts in enumerate(dict.fromkeys(map(_texts, answers)), start=1):
        if texts in known:
            continue
        if n_failed == _GIVES_UP_AFTER:
            reason = f"not asked: the judge failed {_GIVES_UP_AFTER} times in a row"
            known[texts] = Judgement(None, None, reason)
            continue
        known[texts] = judge.judge(*texts)
        n_failed = n_failed + 1 if known[texts].reply is None else 0
        if on_answer is not None:
            on_answer(done, len(answers))
    rows = [_row(job, answer, known[_texts(answer)]) for answer in answers]
    n_open = sum(row.reply is None for row in rows)
    summary = f"{len(rows) - n_open} of {len(rows)} answers judged by {job.judge.model}"
    whose = JudgeRow(job.judge_id, job.judge.model, job.judge.asked_with, job.judge.url)
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("judged_answers", rows),
            store.put_rows("judges", [whose]),
            store.put_rows("provenance", [clock.row(summary, len(rows), "none")]),
        ),
        values=(f"{n_open} open",) if n_open else (),
    )


_Texts = tuple[str, str, str]
"""Question, target and answer."""


def _texts(answer: GeneratedAnswerRow) -> _Texts:
    assert answer.target is not None
    assert answer.text is not None
    return answer.prompt, answer.target, answer.text


def _replied(
    store: ArtifactStore, job: JudgeJob, answers: list[GeneratedAnswerRow]
) -> dict[_Texts, Judgement]:
    """Return what the judge has replied to earlier jobs."""
    texts = {_key(answer): _texts(answer) for answer in answers}
    return {
        texts[_key(row)]: Judgement(row.reply, row.verdict, row.reason)
        for ref in job.earlier
        for row in rows_of("judged_answers", store.frame(ref))
        if row.reply is not None
    }


def _key(row: GeneratedAnswerRow | JudgedAnswerRow) -> tuple[str, str, str, str, int]:
    return row.edit_id, row.generation_id, row.context, row.probe, row.prompt_index


def _row(job: JudgeJob, answer: GeneratedAnswerRow, found: Judgement) -> JudgedAnswerRow:
    return JudgedAnswerRow(
        edit_id=answer.edit_id,
        generation_id=answer.generation_id,
        context=answer.context,
        probe=answer.probe,
        prompt_index=answer.prompt_index,
        judge_id=job.judge_id,
        reply=found.reply,
        verdict=found.verdict,
        is_correct=None if found.verdict is None else found.verdict == "correct",
        reason=found.reason,
    )
