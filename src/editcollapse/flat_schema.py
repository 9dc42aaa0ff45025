"""The flat schema of EasyEdit's CounterFact and zsRE files: plain keys, one prompt of each kind."""

from editcollapse.record_fields import Record, RecordError, is_given, required, shorten, text
from editcollapse.request_fields import (
    answers,
    optional_name,
    optional_probes,
    probes,
    required_name,
    required_prompt,
    subject_of,
    true_name,
)
from editcollapse.requests import SLOT, EditRequest

_NATURAL_QUESTION = "nq question:"


def read_flat(record: Record) -> EditRequest:
    """Return the request of a flat record.

    The prompt is ``template`` where there is one, else ``prompt``, with or without its slot. The
    true object is ``target_true``, else ``ground_truth``, else unknown.

    Raises:
        RecordError: a field is missing or of the wrong type, or prompt and template disagree.
    """
    subject = subject_of(record)
    target_true = true_name(record, "target_true")
    if target_true is None:
        target_true = true_name(record, "ground_truth")
    target_new = required_name(record, "target_new")
    prompt = _slotted(record, subject)
    neighborhood = _neighborhood(record)
    return EditRequest(
        subject=subject,
        prompt=prompt,
        target_new=target_new,
        target_true=target_true,
        paraphrase_prompts=optional_probes(record, "rephrase_prompt"),
        neighborhood_prompts=neighborhood[0],
        neighborhood_targets=neighborhood[1],
        relation_id=optional_name(record, "relation_id"),
    )


def is_question(record: Record) -> bool:
    """Return whether a flat record comes from zsRE: a question, or a Natural Questions probe."""
    locality, prompt = record.get("locality_prompt"), record.get("prompt")
    if isinstance(locality, str) and locality.startswith(_NATURAL_QUESTION):
        return True
    return "cond" in record or (isinstance(prompt, str) and prompt.rstrip().endswith("?"))


def _slotted(record: Record, subject: str) -> str:
    """Return the slotted prompt: the template where there is one, checked against the prompt."""
    if not is_given(record, "template"):
        return required_prompt(record, "prompt", subject)
    template = required_prompt(record, "template", subject)
    if not is_given(record, "prompt"):
        return template
    prompt = text(record["prompt"], "prompt")
    if prompt.strip() not in {template.strip(), template.replace(SLOT, subject).strip()}:
        raise RecordError(
            f"prompt {shorten(repr(prompt))} is not template {shorten(repr(template))} with the "
            "subject in its slot; correct or remove one of them."
        )
    return template


def _neighborhood(record: Record) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return locality prompts and answers from the flat fields, else from a nested ``locality``.

    Nested, ``{"group": {"prompt": ..., "ground_truth": ...}}``, every group counts; a group may be
    a list of such objects (KnowEdit). What has no ``prompt`` is ignored, as is ``portability``.
    """
    nested = record.get("locality")
    if is_given(record, "locality_prompt") or not isinstance(nested, dict):
        prompts = optional_probes(record, "locality_prompt")
        field = "locality_ground_truth"
        # The true object stands in for a missing answer, but not to an unrelated question.
        unrelated = any(prompt.startswith(_NATURAL_QUESTION) for prompt in prompts)
        found = required(record, field) if unrelated else record.get(field)
        return prompts, answers(found, field, prompts=prompts)
    all_prompts: list[str] = []
    all_answers: list[str] = []
    for name, group in nested.items():
        for part in group if isinstance(group, list) else [group]:
            if not isinstance(part, dict) or not is_given(part, "prompt"):
                continue
            prompts = probes(part["prompt"], f"locality.{name}.prompt")
            found = part.get("ground_truth")
            if len(prompts) == 1 and isinstance(found, list) and len(found) > 1:
                found = [found]  # alternatives of the one answer
            all_prompts += prompts
            all_answers += answers(found, f"locality.{name}.ground_truth", prompts=prompts)
    known = answers(all_answers or None, "locality", prompts=all_prompts)
    return tuple(all_prompts), known
