"""The flat schema of EasyEdit's CounterFact and zsRE files: plain keys, one prompt of each kind."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from editcollapse.data.records import (
    ParsedRecord,
    Record,
    RecordError,
    answers,
    case_id_of,
    check_lengths,
    describe,
    is_given,
    optional_name,
    optional_probes,
    probes,
    read_json_records,
    required,
    required_name,
    required_prompt,
    shorten,
    subject_of,
    text,
    true_name,
    value_of,
)
from editcollapse.data.requests import SLOT, EditRequest, Rejection, RequestFile, RequestRecord
from editcollapse.errors import DatasetError, nearest_first
from editcollapse.fingerprints import digest_file

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


_LOGGER = logging.getLogger(__name__)
_SHOWN_REASONS = 3
_SHOWN_IDS = 10


def read_requests(path: Path) -> RequestFile:
    """Return the edit requests of a JSON list or JSONL file, and a rejection for each other record.

    The schema is the one that most records have (``datasets``); records of another one are
    rejected. Subjects and targets lose surrounding blanks, prompts are left as they are.

    Args:
        path: UTF-8, with or without a byte order mark.

    Raises:
        DatasetError: the file is missing, a folder, empty, not UTF-8, malformed as a JSON document,
            of an unknown schema, or without one usable record (with the first reasons).
    """
    parsed = read_json_records(path, "a file of edit requests")
    found = schema_of_file(record.value for record in parsed)
    if found is None:
        raise DatasetError(
            f"edit requests were asked from {path}, where none of {len(parsed)} records has a "
            f"known schema{_first_problem(parsed)}. Known are {KNOWN}."
        )
    family, schema = found
    records: list[RequestRecord] = []
    rejections: list[Rejection] = []
    for record in parsed:
        case_id = case_id_of(record.value)
        try:
            request = check_lengths(request_of(value_of(record), family))
        except RecordError as error:
            rejections.append(Rejection(record.index, case_id, str(error)))
        else:
            records.append(RequestRecord(record.index, case_id, request))
    if not records:
        raise DatasetError(
            f"edit requests were asked from {path}, where none of {len(parsed)} records can be "
            f"used: {_reasons(rejections)} Correct the records."
        )
    if rejections:
        first = _reasons(rejections[:1])
        n_rejected, n_records = len(rejections), len(parsed)
        _LOGGER.warning("%s: %d of %d records rejected; %s", path, n_rejected, n_records, first)
    return RequestFile(
        name=path.stem,
        schema=schema,
        content_digest=digest_file(path),
        n_records=len(parsed),
        records=tuple(records),
        rejections=tuple(rejections),
    )


def select(
    file: RequestFile, *, limit: int | None = None, case_ids: Sequence[str] | None = None
) -> RequestFile:
    """Return the file with fewer records, in file order; its identity and rejections stay.

    Args:
        file: what ``read_requests`` returned.
        limit: at most this many accepted records, counted after ``case_ids``; None for all.
        case_ids: the cases to keep; their order does not matter. A case id that several records
            share keeps them all.

    Raises:
        DatasetError: ``limit`` is below 1, ``case_ids`` is empty, or a case id is not in the file
            or stands for rejected records only.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"{limit} records of {file.name} were asked; ask for 1 or more.")
    records = file.records
    if case_ids is not None:
        if not case_ids:
            raise DatasetError(
                f"no case of {file.name} was asked; name one, or leave case_ids out."
            )
        wanted = set(case_ids)
        _check_case_ids(file, list(dict.fromkeys(case_ids)))
        records = tuple(record for record in records if record.case_id in wanted)
    return dataclasses.replace(file, records=records[:limit])


def _check_case_ids(file: RequestFile, asked: list[str]) -> None:
    accepted = {record.case_id for record in file.records if record.case_id is not None}
    missing = [case_id for case_id in asked if case_id not in accepted]
    if not missing:
        return
    shown = ", ".join(missing[:_SHOWN_IDS]) + (", ..." if len(missing) > _SHOWN_IDS else "")
    rejected = {rejection.case_id: rejection for rejection in file.rejections}
    if (rejection := rejected.get(missing[0])) is not None:
        found = f"record {rejection.record_index} was rejected: {rejection.reason}"
    elif not accepted:
        found = "its records have no case_id; select with limit."
    else:
        known = nearest_first(missing[0], accepted).split(", ")[:_SHOWN_IDS]
        found = f"it has {len(accepted)} case ids, such as {', '.join(known)}."
    raise DatasetError(f"{file.name} has no usable case {shown}: {found}")


def _reasons(rejections: Sequence[Rejection]) -> str:
    shown = [f"record {item.record_index}: {item.reason}" for item in rejections[:_SHOWN_REASONS]]
    more = len(rejections) - len(shown)
    return " ".join([*shown, *([f"(and {more} more)."] if more else [])])


def _first_problem(parsed: Sequence[ParsedRecord]) -> str:
    problems = [record.problem for record in parsed if record.problem is not None]
    return f" ({problems[0].rstrip('.')})" if problems else ""
