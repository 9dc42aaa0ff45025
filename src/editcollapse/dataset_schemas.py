"""The four published record schemas, and how each becomes an edit request.

counterfact (kmeng01/rome), counterfact_flat (EasyEdit), zsre (MEND, EasyEdit) and zsre_flat
(EasyEdit's edit split). Extra fields are ignored. A required field that is missing or null, and any
field of the wrong type, rejects the record; an optional field that is null counts as absent.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from editcollapse.flat_schema import is_question, read_flat
from editcollapse.record_fields import Record, RecordError, describe, required, shorten
from editcollapse.request_fields import (
    answers,
    optional_name,
    optional_probes,
    required_name,
    required_prompt,
    subject_of,
    true_name,
)
from editcollapse.requests import EditRequest

KNOWN = (
    "counterfact (requested_rewrite, paraphrase_prompts, ...), "
    "flat (subject, prompt, target_new, ...) and zsre (subject, src, alt, ...)"
)


def family_of(record: Any) -> str | None:
    """Return ``counterfact``, ``zsre`` or ``flat``; None for anything else."""
    if not isinstance(record, dict):
        return None
    if "requested_rewrite" in record:
        return "counterfact"
    if "src" in record or ("alt" in record and "prompt" not in record):
        return "zsre"
    return "flat" if "prompt" in record or "template" in record else None


def schema_of_file(records: Iterable[Any]) -> tuple[str, str] | None:
    """Return the family that most records have, and the schema's name; None where none is known.

    A tie goes to the family that comes first. Both flat schemas are read alike; the name is
    ``zsre_flat`` where most flat records are questions, as the zsRE edit split's are.
    """
    families = [(family_of(record), record) for record in records]
    counts = Counter(family for family, _ in families if family is not None)
    if not counts:
        return None
    family = counts.most_common(1)[0][0]
    if family != "flat":
        return family, family
    flat = [record for found, record in families if found == "flat"]
    n_questions = sum(is_question(record) for record in flat)
    return family, "zsre_flat" if 2 * n_questions > len(flat) else "counterfact_flat"


def request_of(record: Any, family: str) -> EditRequest:
    """Return the edit request that a record states.

    Args:
        record: parsed JSON.
        family: the file's family, from ``schema_of_file``.

    Raises:
        RecordError: the record cannot be used; the message names the field, what was found, and
            what to do.
    """
    if not isinstance(record, dict):
        raise RecordError(
            f"the record is {describe(record)} where an object is expected; remove it."
        )
    found = family_of(record)
    if found is None:
        names = shorten(", ".join(record) or "none")
        raise RecordError(
            f"the record's fields ({names}) match no known schema; known are {KNOWN}."
        )
    if found != family:
        raise RecordError(
            f"the record has the {found} schema in a file of the {family} schema; "
            "move it to a file of its own."
        )
    request = _READERS[family](record)
    if request.target_new == request.target_true:
        raise RecordError(
            f"target_new and target_true are both {shorten(repr(request.target_new))}; "
            "an edit needs two different objects."
        )
    return request


def _read_counterfact(record: Record) -> EditRequest:
    at = "requested_rewrite."
    rewrite = required(record, "requested_rewrite")
    if not isinstance(rewrite, dict):
        raise RecordError(f"requested_rewrite is {describe(rewrite)} where one object is expected.")
    subject = subject_of(rewrite, at)
    return EditRequest(
        subject=subject,
        prompt=required_prompt(rewrite, "prompt", subject, at),
        target_new=_target(rewrite, "target_new", at),
        target_true=_target(rewrite, "target_true", at),
        paraphrase_prompts=optional_probes(record, "paraphrase_prompts"),
        neighborhood_prompts=optional_probes(record, "neighborhood_prompts"),
        relation_id=optional_name(rewrite, "relation_id"),
    )


def _target(rewrite: Record, name: str, prefix: str) -> str:
    target = required(rewrite, name, prefix)
    if not isinstance(target, dict):
        raise RecordError(
            f"{prefix}{name} is {describe(target)} where an object with 'str' is expected; "
            'write {"str": "..."}.'
        )
    return required_name(target, "str", f"{prefix}{name}.")


def _read_zsre(record: Record) -> EditRequest:
    """Return the request with ``alt`` as the new object, as MEND and EasyEdit do.

    MEMIT's loader writes ``answers[0]``, the true answer, instead. ``loc`` is kept as published,
    with its leading "nq question: "; MEMIT's loader appends a question mark.
    """
    subject = subject_of(record)
    target_true = true_name(record, "answers")
    prompts = optional_probes(record, "loc")
    found = required(record, "loc_ans") if prompts else record.get("loc_ans")
    return EditRequest(
        subject=subject,
        prompt=required_prompt(record, "src", subject),
        target_new=required_name(record, "alt"),
        target_true=optional_name(record, "pred") if target_true is None else target_true,
        paraphrase_prompts=optional_probes(record, "rephrase"),
        neighborhood_prompts=prompts,
        neighborhood_targets=answers(found, "loc_ans", prompts=prompts),
    )


_READERS: dict[str, Callable[[Record], EditRequest]] = {
    "counterfact": _read_counterfact,
    "flat": read_flat,
    "zsre": _read_zsre,
}
