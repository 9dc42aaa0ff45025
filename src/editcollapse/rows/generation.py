"""Row types of free generation: what edited models answer, and what a judge says of it.

None means not measured, or that there is no such thing.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class GenerationSettingsRow:
    """How answers are generated."""

    generation_id: str
    n_tokens: int
    stops: str
    fluency_tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class GeneratedAnswerRow:
    """What one edited model writes behind one prompt in one context, and the unedited one."""

    edit_id: str
    generation_id: str
    context: str
    probe: str
    prompt_index: int
    prompt: str
    target: str | None
    text: str | None
    text_before: str | None
    n_tokens: int | None
    n_tokens_before: int | None
    stopped_by: str | None
    exact_match: bool | None
    exact_match_before: bool | None
    contains_match: bool | None
    contains_match_before: bool | None
    same_tokens: bool | None
    ngram_entropy: float | None
    ngram_entropy_before: float | None
    reason: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class JudgeRow:
    """Who judges answers, and what it is asked."""

    judge_id: str
    model: str
    prompt: str
    url: str


@dataclasses.dataclass(frozen=True, slots=True)
class JudgedAnswerRow:
    """A judge's reply on one answer."""

    edit_id: str
    generation_id: str
    context: str
    probe: str
    prompt_index: int
    judge_id: str
    reply: str | None
    verdict: str | None
    is_correct: bool | None
    reason: str | None
