"""Fields that the schemas of edit requests share: subject, slot, probes and their answers."""

import unicodedata
from collections.abc import Sequence
from typing import Any

from editcollapse.record_fields import (
    Record,
    RecordError,
    is_given,
    name_text,
    required,
    shorten,
    text,
    texts,
)
from editcollapse.requests import SLOT, EditRequest

MAX_CHARACTERS = 100_000
"""Longer than any prompt is, and short enough to be tokenized many times over."""


def subject_of(record: Record, prefix: str = "") -> str:
    """Return the subject. Raises RecordError where there is none, or it holds the slot's mark."""
    subject = required_name(record, "subject", prefix)
    if SLOT in subject:
        raise RecordError(f"{prefix}subject holds {SLOT}, which marks the slot; remove the braces.")
    return subject


def check_lengths(request: EditRequest) -> EditRequest:
    """Return a request. Raises RecordError where a text is longer than any model's context."""
    named = {
        "subject": (request.subject,),
        "prompt": (request.prompt,),
        "target_new": (request.target_new,),
        "target_true": (request.target_true or "",),
        "a paraphrase prompt": request.paraphrase_prompts,
        "a neighborhood prompt": request.neighborhood_prompts,
        "a neighborhood target": request.neighborhood_targets,
    }
    for name, found in named.items():
        longest = max(map(len, found), default=0)
        if longest > MAX_CHARACTERS:
            raise RecordError(
                f"{name} has {longest} characters, and a sentence has at most {MAX_CHARACTERS}; "
                "shorten it."
            )
    return request


def required_name(record: Record, name: str, prefix: str = "") -> str:
    """Return a subject or target without surrounding blanks. Raises RecordError as ``text``."""
    return name_text(required(record, name, prefix), prefix + name)


def optional_name(record: Record, name: str) -> str | None:
    """Return such a field, None where it is absent or null. Raises RecordError as ``text``."""
    return name_text(record[name], name) if is_given(record, name) else None


def true_name(record: Record, name: str) -> str | None:
    """Return the true object: a string, or the first of a list of accepted answers.

    None where the field is absent, null or an empty list. Raises RecordError for anything else.
    """
    value = record.get(name)
    if not isinstance(value, list):
        return optional_name(record, name)
    return name_text(value[0], f"{name}[0]") if value else None


def required_prompt(record: Record, name: str, subject: str, prefix: str = "") -> str:
    """Return the rewrite prompt with its one slot. Raises RecordError as ``slotted_prompt``."""
    prompt = text(required(record, name, prefix), prefix + name)
    return slotted_prompt(prompt, subject, prefix + name)


def slotted_prompt(prompt: str, subject: str, path: str) -> str:
    """Return the prompt with exactly one slot, made from the subject where the prompt has none.

    Without a slot, the first occurrence of the subject becomes it; one that stands as whole words
    goes before one inside a longer word (``Art`` in ``The Party of Art``). Other occurrences, and
    braces that are not ``{}``, stay text. EasyEdit replaces every occurrence, which leaves such a
    prompt with several slots.

    Raises:
        RecordError: several slots, or neither a slot nor the subject.
    """
    n_slots = prompt.count(SLOT)
    if n_slots > 1:
        raise RecordError(
            f"{path} has {n_slots} slots {SLOT} in {shorten(repr(prompt))}; keep exactly one."
        )
    if n_slots == 1:
        return prompt
    start = _find_subject(prompt, subject)
    if start < 0:
        raise RecordError(
            f"the subject {shorten(repr(subject))} does not occur in {path} {shorten(repr(prompt))}"
            f"{_normalisation_hint(prompt, subject)}; mark its place with {SLOT}."
        )
    return prompt[:start] + SLOT + prompt[start + len(subject) :]


def optional_probes(record: Record, name: str) -> tuple[str, ...]:
    """Return complete prompts; none where the field is absent or null. Raises as ``probes``."""
    return probes(record[name], name) if is_given(record, name) else ()


def probes(value: Any, path: str) -> tuple[str, ...]:
    """Return one or more complete prompts.

    Raises:
        RecordError: as ``texts``, and where a prompt has an open slot.
    """
    prompts = texts(value, path)
    for prompt in prompts:
        if SLOT in prompt:
            raise RecordError(
                f"{path} has an open slot {SLOT} in {shorten(repr(prompt))}; write it in full."
            )
    return prompts


def answers(value: Any, path: str, *, prompts: Sequence[str]) -> tuple[str, ...]:
    """Return one answer for each prompt, without surrounding blanks; none where ``value`` is None.

    Where an answer is a list, it holds alternatives, of which the first is taken.

    Raises:
        RecordError: another number of answers than of prompts, or an answer that is no string.
    """
    if value is None:
        return ()
    entries = value if isinstance(value, list) else [value]
    firsts = [item[0] if isinstance(item, list) and item else item for item in entries]
    if len(firsts) != len(prompts):
        raise RecordError(
            f"{path} has {len(firsts)} answers for {len(prompts)} prompts; give one for each."
        )
    return tuple(answer.strip() for answer in texts(firsts, path))


def _find_subject(prompt: str, subject: str) -> int:
    """Return where the subject starts: whole words first, then anywhere, else -1."""
    anywhere = start = prompt.find(subject)
    while start >= 0:
        before = prompt[max(start - 1, 0) : start]
        after = prompt[start + len(subject) : start + len(subject) + 1]
        if not (_joins(before) or _joins(after)):
            return start
        start = prompt.find(subject, start + 1)
    return anywhere


def _joins(character: str) -> bool:
    """Return whether a neighbouring character makes the match a part of a longer word."""
    return character.isalnum() or bool(character and unicodedata.combining(character))


def _normalisation_hint(prompt: str, subject: str) -> str:
    same = unicodedata.normalize("NFC", subject) in unicodedata.normalize("NFC", prompt)
    return " (they differ in Unicode normalisation only)" if same else ""
