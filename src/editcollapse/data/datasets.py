"""Files of edit requests: CounterFact and zsRE in four published schemas.

counterfact (kmeng01/rome), counterfact_flat (EasyEdit), zsre (MEND, EasyEdit) and zsre_flat
(EasyEdit's edit split). Extra fields are ignored. A required field that is missing or empty, and
any field of the wrong type, rejects the record, with a sentence that says why; an optional field
that is empty (null, a blank string, an empty list) counts as absent.
"""

import dataclasses
import logging
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AliasPath,
    BaseModel,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
)

from editcollapse.config.spec import digits
from editcollapse.data.records import (
    Name,
    ParsedRecord,
    RecordError,
    Sentence,
    describe,
    faults,
    read_json_records,
    shorten,
)
from editcollapse.data.requests import SLOT, EditRequest, Rejection, RequestFile, RequestRecord
from editcollapse.errors import DatasetError, StudyError, nearest_first
from editcollapse.fingerprints import digest_file

_LOGGER = logging.getLogger(__name__)
_SHOWN_REASONS = 3
_SHOWN_IDS = 10
_FACT = "requested_rewrite"
_NATURAL_QUESTION = "nq question:"
_KNOWN = (
    "counterfact (requested_rewrite, paraphrase_prompts, ...), "
    "flat (subject, prompt, target_new, ...) and zsre (subject, src, alt, ...)"
)


def _is_empty(value: Any) -> bool:
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())


def _absent(value: Any) -> Any:
    return None if _is_empty(value) else value


def _listed(value: Any) -> Any:
    if value.__class__ is str:
        return () if value.isspace() or not value else (value,)
    return () if _is_empty(value) else value


def _firsts(value: Any) -> Any:
    """One answer for each prompt: where one is a list of alternatives, the first of them."""
    if not isinstance(value, list):
        return _listed(value)
    return [item[0] if isinstance(item, list) and item else item for item in value]


def _first(value: Any) -> Any:
    return value[:1] if isinstance(value, list) else _listed(value)


def _without_slot(value: str) -> str:
    if SLOT in value:
        raise RecordError("holds {}, which marks the slot; remove the braces.")
    return value


def _filled(value: str) -> str:
    if SLOT in value:
        raise RecordError(f"has an open slot {SLOT} in {shorten(repr(value))}; write it in full.")
    return value


def _case_id(value: Any) -> Any:
    found = _absent(digits(value))
    if found is not None and not isinstance(found, str):
        raise RecordError(
            f"is {describe(value)} where an integer or a string is expected; correct or remove it."
        )
    return found


CaseId = Annotated[Name | None, BeforeValidator(_case_id)]
"""An integer or a string, as a string; nothing else is the id of a case."""
Subject = Annotated[Name, AfterValidator(_without_slot)]
OptionalName = Annotated[Name | None, BeforeValidator(_absent)]
OptionalSentence = Annotated[Sentence | None, BeforeValidator(_absent)]
Prompts = Annotated[
    tuple[Annotated[Sentence, AfterValidator(_filled)], ...], BeforeValidator(_listed)
]
"""One or more complete prompts."""
Answers = Annotated[tuple[Name, ...], BeforeValidator(_firsts)]
"""One answer for each prompt."""
Accepted = Annotated[tuple[Name, ...], BeforeValidator(_first)]
"""An object, or a list of accepted ones, of which the first is taken."""
_CASE_ID = TypeAdapter[str | None](CaseId)


class CounterFactRecord(BaseModel):
    """CounterFact as kmeng01/rome publishes it."""

    case_id: CaseId = None
    subject: Subject = Field(validation_alias=AliasPath(_FACT, "subject"))
    prompt: Sentence = Field(validation_alias=AliasPath(_FACT, "prompt"))
    target_new: Name = Field(validation_alias=AliasPath(_FACT, "target_new", "str"))
    target_true: Name = Field(validation_alias=AliasPath(_FACT, "target_true", "str"))
    relation_id: OptionalName = Field(None, validation_alias=AliasPath(_FACT, "relation_id"))
    paraphrase_prompts: Prompts = ()
    neighborhood_prompts: Prompts = ()

    def request(self) -> EditRequest:
        """The edit request. Raises RecordError where the prompt has not one slot."""
        return EditRequest(
            subject=self.subject,
            prompt=slotted_prompt(self.prompt, self.subject, f"{_FACT}.prompt"),
            target_new=self.target_new,
            target_true=self.target_true,
            paraphrase_prompts=self.paraphrase_prompts,
            neighborhood_prompts=self.neighborhood_prompts,
            relation_id=self.relation_id,
        )


class ZsreRecord(BaseModel):
    """A zsRE record of MEND, with ``alt`` as the new object, as MEND and EasyEdit have it.

    MEMIT's loader writes ``answers[0]``, the true answer, instead. ``loc`` is kept as published,
    with its leading "nq question: "; MEMIT's loader appends a question mark.
    """

    case_id: CaseId = None
    subject: Subject
    src: Sentence
    alt: Name
    answers: Accepted = ()
    pred: OptionalName = None
    rephrase: Prompts = ()
    loc: Prompts = ()
    loc_ans: Answers = ()

    def request(self) -> EditRequest:
        """The edit request. Raises RecordError without one slot, or an answer for each probe."""
        return EditRequest(
            subject=self.subject,
            prompt=slotted_prompt(self.src, self.subject, "src"),
            target_new=self.alt,
            target_true=self.answers[0] if self.answers else self.pred,
            paraphrase_prompts=self.rephrase,
            neighborhood_prompts=self.loc,
            neighborhood_targets=_one_each(self.loc_ans, self.loc, "loc_ans", is_needed=True),
        )


class FlatRecord(BaseModel):
    """CounterFact or zsRE in EasyEdit's flat schema: plain keys, one prompt of each kind or more.

    The prompt is ``template`` where there is one, else ``prompt``, with or without its slot. Probes
    of locality stand in flat fields, else in a nested ``locality``, ``{"group": {"prompt": ...,
    "ground_truth": ...}}``, where every group counts, and may be a list of such objects (KnowEdit).
    """

    case_id: CaseId = None
    subject: Subject
    prompt: OptionalSentence = None
    template: OptionalSentence = None
    target_new: Name
    target_true: Accepted = ()
    ground_truth: Accepted = ()
    rephrase_prompt: Prompts = ()
    locality_prompt: Prompts = ()
    locality_ground_truth: Answers = ()
    locality: Any = None
    relation_id: OptionalName = None

    def request(self) -> EditRequest:
        """The edit request.

        Raises:
            RecordError: the prompt has not one slot or is not the template, or a probe that is no
                neighbor of the fact has no answer.
        """
        prompts, answers = self.locality_prompt, self.locality_ground_truth
        if isinstance(self.locality, dict) and not prompts:
            nested = [_probes(*each) for each in _groups(self.locality)]
            prompts = tuple(prompt for each in nested for prompt in each[0])
            answers = tuple(answer for each in nested for answer in each[1])
        return EditRequest(
            subject=self.subject,
            prompt=self._slotted(),
            target_new=self.target_new,
            target_true=next(iter(self.target_true or self.ground_truth), None),
            paraphrase_prompts=self.rephrase_prompt,
            neighborhood_prompts=prompts,
            neighborhood_targets=_one_each(answers, prompts, "locality_ground_truth"),
            relation_id=self.relation_id,
        )

    def _slotted(self) -> str:
        """The slotted prompt: the template where there is one, checked against the prompt."""
        if self.template is None:
            if self.prompt is None:
                raise RecordError("prompt is empty; give it a text.")
            return slotted_prompt(self.prompt, self.subject, "prompt")
        template = slotted_prompt(self.template, self.subject, "template")
        fitting = {template.strip(), template.replace(SLOT, self.subject).strip()}
        if self.prompt is not None and self.prompt.strip() not in fitting:
            raise RecordError(
                f"prompt {shorten(repr(self.prompt))} is not template {shorten(repr(template))} "
                "with the subject in its slot; correct or remove one of them."
            )
        return template


class _Probes(BaseModel):
    """A group of a nested locality: prompts and their answers."""

    prompt: Prompts
    ground_truth: Answers = ()


_Record = CounterFactRecord | ZsreRecord | FlatRecord
_ModelT = TypeVar("_ModelT", bound=BaseModel)
_MODELS: dict[str, type[_Record]] = {
    "counterfact": CounterFactRecord,
    "flat": FlatRecord,
    "zsre": ZsreRecord,
}


def _groups(locality: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The groups of a nested locality that have prompts, with their names; others are ignored."""
    for name, group in locality.items():
        for part in group if isinstance(group, list) else [group]:
            if isinstance(part, dict) and not _is_empty(part.get("prompt")):
                yield name, part


def _probes(name: str, group: dict[str, Any]) -> tuple[Sequence[str], Sequence[str]]:
    """Prompts and answers of a group of a nested locality. Raises RecordError for a fault."""
    prompt, found = group["prompt"], group.get("ground_truth")
    is_one = not isinstance(prompt, list) or len(prompt) == 1
    if is_one and isinstance(found, list) and len(found) > 1:
        found = [found]  # alternatives of the one answer
    group = {"prompt": prompt, "ground_truth": found}
    probes = _validated(_Probes, group, f"locality.{name}.")
    path = f"locality.{name}.ground_truth"
    return probes.prompt, _one_each(probes.ground_truth, probes.prompt, path)


def _one_each(
    answers: Sequence[str], prompts: Sequence[str], path: str, *, is_needed: bool = False
) -> tuple[str, ...]:
    """One answer for each prompt, or none: then the true object stands in, where that may be.

    Raises:
        RecordError: another number of answers, or none to a question that is about something else.
    """
    if not answers:
        if any(is_needed or prompt.startswith(_NATURAL_QUESTION) for prompt in prompts):
            raise RecordError(f"{path} is missing; add it to the record.")
    elif len(answers) != len(prompts):
        raise RecordError(
            f"{path} has {len(answers)} answers for {len(prompts)} prompts; give one for each."
        )
    return tuple(answers)


def _validated(model: type[_ModelT], value: dict[str, Any], prefix: str = "") -> _ModelT:
    """An object of a schema. Raises RecordError with a sentence for each fault."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RecordError(faults(error, prefix=prefix)) from error


def slotted_prompt(prompt: str, subject: str, path: str) -> str:
    """The prompt with exactly one slot, made from the subject where the prompt has none.

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
        same = unicodedata.normalize("NFC", subject) in unicodedata.normalize("NFC", prompt)
        hint = " (they differ in Unicode normalisation only)" if same else ""
        raise RecordError(
            f"the subject {shorten(repr(subject))} does not occur in {path} "
            f"{shorten(repr(prompt))}{hint}; mark its place with {SLOT}."
        )
    return prompt[:start] + SLOT + prompt[start + len(subject) :]


def _find_subject(prompt: str, subject: str) -> int:
    """Where the subject starts: whole words first, then anywhere, else -1."""
    anywhere = start = prompt.find(subject)
    while start >= 0:
        before = prompt[max(start - 1, 0) : start]
        after = prompt[start + len(subject) : start + len(subject) + 1]
        if not (_joins(before) or _joins(after)):
            return start
        start = prompt.find(subject, start + 1)
    return anywhere


def _joins(character: str) -> bool:
    """Whether a neighbouring character makes the match a part of a longer word."""
    return character.isalnum() or bool(character and unicodedata.combining(character))


def request_in_words(subject: str, prompt: str, target_new: str, path: str) -> EditRequest:
    """The edit request that a person asks for in words, with no probes.

    Args:
        subject: what the fact is about.
        prompt: with or without its slot.
        target_new: the object to be written.
        path: what the prompt is called in messages.

    Raises:
        RecordError: one of them is blank or too long, or the prompt has not one slot.
    """
    fields = {"subject": subject, "prompt": prompt, "target_new": target_new}
    asked = _validated(FlatRecord, fields)
    slotted = slotted_prompt(prompt, asked.subject, path)
    return EditRequest(asked.subject, slotted, asked.target_new, None)


def edit_request(prompt: str, *, subject: str, target: str) -> EditRequest:
    """Edit request of one fact, without probes.

    Args:
        prompt: with ``{}`` where the subject stands; or with the subject itself.
        subject: the entity.
        target: the object to be written.

    Raises:
        StudyError: subject or target is blank, or the prompt has no place for the subject.
    """
    subject, target = subject.strip(), target.strip()
    if not subject or not target:
        blank = "`subject`" if not subject else "`target`"
        raise StudyError(f"{blank} is blank; give a word.")
    if SLOT in subject:
        raise StudyError(f"`subject` holds {SLOT}, which marks its place; remove the braces.")
    try:
        return request_in_words(subject, prompt, target, "`prompt`")
    except RecordError as error:
        raise StudyError(str(error)) from error


def _family_of(record: Any) -> str | None:
    """``counterfact``, ``zsre`` or ``flat``; None for anything else."""
    if not isinstance(record, dict):
        return None
    if "requested_rewrite" in record:
        return "counterfact"
    if "src" in record or ("alt" in record and "prompt" not in record):
        return "zsre"
    return "flat" if "prompt" in record or "template" in record else None


def _is_question(record: dict[str, Any]) -> bool:
    """Whether a flat record comes from zsRE: a question, or a Natural Questions probe."""
    locality, prompt = record.get("locality_prompt"), record.get("prompt")
    if isinstance(locality, str) and locality.startswith(_NATURAL_QUESTION):
        return True
    return "cond" in record or (isinstance(prompt, str) and prompt.rstrip().endswith("?"))


def _schema_of_file(records: Sequence[Any]) -> tuple[str, str] | None:
    """The family that most records have, and the schema's name; None where none is known.

    A tie goes to the family that comes first. Both flat schemas are read alike; the name is
    ``zsre_flat`` where most flat records are questions, as the zsRE edit split's are.
    """
    families = [_family_of(record) for record in records]
    counts = Counter(family for family in families if family is not None)
    if not counts:
        return None
    family = counts.most_common(1)[0][0]
    if family != "flat":
        return family, family
    pairs = zip(records, families, strict=True)
    n_questions = sum(_is_question(record) for record, found in pairs if found == family)
    return family, "zsre_flat" if 2 * n_questions > counts[family] else "counterfact_flat"


def _read_record(parsed: ParsedRecord, family: str) -> RequestRecord:
    """A record of a file of the family.

    Raises:
        RecordError: the record cannot be used; the message names the field, what was found, and
            what to do.
    """
    value, found = parsed.json(), _family_of(parsed.value)
    if not isinstance(value, dict):
        raise RecordError(
            f"the record is {describe(value)} where an object is expected; remove it."
        )
    if found is None:
        names = shorten(", ".join(value) or "none")
        raise RecordError(
            f"the record's fields ({names}) match no known schema; known are {_KNOWN}."
        )
    if found != family:
        raise RecordError(
            f"the record has the {found} schema in a file of the {family} schema; "
            "move it to a file of its own."
        )
    record = _validated(_MODELS[family], value)
    request = record.request()
    if request.target_new == request.target_true:
        raise RecordError(
            f"target_new and target_true are both {shorten(repr(request.target_new))}; "
            "an edit needs two different objects."
        )
    return RequestRecord(parsed.index, record.case_id, request)


def _rejection(parsed: ParsedRecord, reason: str) -> Rejection:
    """A rejected record, with its case id where that can be used."""
    value = parsed.value.get("case_id") if isinstance(parsed.value, dict) else None
    try:
        case_id = _CASE_ID.validate_python(value)
    except ValidationError:
        case_id = None
    return Rejection(parsed.index, case_id, reason)


def read_requests(path: Path) -> RequestFile:
    """The edit requests of a JSON list or JSONL file, and a rejection for each other record.

    The schema is the one that most records have; records of another one are rejected. Subjects and
    targets lose surrounding blanks, prompts are left as they are.

    Args:
        path: UTF-8, with or without a byte order mark.

    Raises:
        DatasetError: the file is missing, a folder, empty, not UTF-8, malformed as a JSON document,
            of an unknown schema, or without one usable record (with the first reasons).
    """
    parsed = read_json_records(path, "a file of edit requests")
    found = _schema_of_file([record.value for record in parsed])
    if found is None:
        problems = [record.problem for record in parsed if record.problem is not None]
        why = f" ({problems[0].rstrip('.')})" if problems else ""
        raise DatasetError(
            f"edit requests were asked from {path}, where none of {len(parsed)} records has a "
            f"known schema{why}. Known are {_KNOWN}."
        )
    family, schema = found
    records: list[RequestRecord] = []
    rejections: list[Rejection] = []
    for record in parsed:
        try:
            records.append(_read_record(record, family))
        except RecordError as error:
            rejections.append(_rejection(record, str(error)))
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


def _reasons(rejections: Sequence[Rejection]) -> str:
    shown = [f"record {item.record_index}: {item.reason}" for item in rejections[:_SHOWN_REASONS]]
    more = len(rejections) - len(shown)
    return " ".join([*shown, *([f"(and {more} more)."] if more else [])])


def select(
    file: RequestFile, *, limit: int | None = None, case_ids: Sequence[str] | None = None
) -> RequestFile:
    """The file with fewer records, in file order; its identity and rejections stay.

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
