"""Where the subjects of a dataset stand under a model's tokenizer, before anything runs."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from editcollapse.data.requests import SLOT, EditRequest, RequestRecord
from editcollapse.models.tokenization import (
    Encoder,
    PositionAudit,
    SubjectSequence,
    SubjectText,
    UnusableTextError,
)

_SEEN = 3
"""Characters at a context's end that decide how the prompt behind it is cut into tokens."""
_AT_ONCE = 8192


@dataclasses.dataclass(frozen=True, slots=True)
class SubjectCounts:
    """Number of edit requests by where their subjects stand."""

    first_token: int
    first_several: int
    inside: int
    unusable: tuple[str, ...]
    """A sentence for each request that the model cannot take."""
    last_token_differs: int
    """Of the usable ones, those whose subject ends with another token in a context."""


def count_positions(
    encoder: Encoder, records: Sequence[RequestRecord], templates: Sequence[str]
) -> SubjectCounts:
    """Count where subjects stand, as ``positions`` will have it when the requests are edited.

    Of templates with the same end one is looked at, and of subjects only those that start their
    prompt: the others have the same text in front of them in any context. A context's own tokens
    are not added to a prompt's length.

    Args:
        encoder: the model's tokenizer and its policies.
        records: the requests.
        templates: context templates, or what stands for them.
    """
    contexts = {each.partition(SLOT)[0][-_SEEN:]: each for each in templates if each != SLOT}
    found: Counter[str] = Counter()
    n_differ = 0
    unusable: list[str] = []
    for start in range(0, len(records), _AT_ONCE):
        some = records[start : start + _AT_ONCE]
        audits = _audits(encoder, [each.request for each in some], contexts.values())
        for record, audit in zip(some, audits, strict=True):
            if isinstance(audit, UnusableTextError):
                unusable.append(f"record {record.record_index}: {audit}")
            else:
                found[audit.subject_position] += 1
                n_differ += audit.last_token_differs
    return SubjectCounts(
        first_token=found["first_token"],
        first_several=found["first_several"],
        inside=found["inside"],
        unusable=tuple(unusable),
        last_token_differs=n_differ,
    )


def _audits(
    encoder: Encoder, requests: Sequence[EditRequest], contexts: Iterable[str]
) -> Iterator[PositionAudit | UnusableTextError]:
    """Yield each request's audit, or why the model cannot take it."""
    bare = _sequences(encoder, SLOT, requests)
    starting = [n for n, each in enumerate(requests) if each.prompt.startswith(SLOT)]
    in_context: dict[int, list[SubjectSequence]] = {}
    for template in contexts:
        placed = _sequences(encoder, template, [requests[n] for n in starting])
        for n, each in zip(starting, placed, strict=True):
            if isinstance(each, SubjectSequence):
                in_context.setdefault(n, []).append(each)
    for n, (request, sequence) in enumerate(zip(requests, bare, strict=True)):
        try:
            yield _audit(encoder, request, sequence, in_context.get(n, ()))
        except UnusableTextError as error:
            yield error


def _sequences(
    encoder: Encoder, template: str, requests: Sequence[EditRequest]
) -> list[SubjectSequence | UnusableTextError]:
    """Return the prompts in a template, tokenized side by side."""
    return encoder.subject_sequences(
        [SubjectText.of(template, each.prompt, each.subject) for each in requests]
    )


def _audit(
    encoder: Encoder,
    request: EditRequest,
    bare: SubjectSequence | UnusableTextError,
    contexts: Sequence[SubjectSequence],
) -> PositionAudit:
    """Return a request's audit. Raises UnusableTextError where the model cannot take it."""
    if isinstance(bare, UnusableTextError):
        raise bare
    target = encoder.target_ids(request.target_new)
    encoder.check_length(bare.ids + target[:-1], request.filled_prompt)
    return encoder.audit_of(bare, contexts)
