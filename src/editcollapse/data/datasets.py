"""Files of edit requests: CounterFact, zsRE, KnowEdit and QAEdit as published, others by mapping.

counterfact (kmeng01/rome), counterfact_flat (EasyEdit; KnowEdit's groups of locality and
portability), zsre (MEND, EasyEdit), zsre_flat (EasyEdit's edit split) and qaedit; with a mapping of
fields, any other. Extra fields are ignored. A required field that is missing or empty, and any
field of the wrong type, rejects the record, with a sentence that says why; an optional field that
is empty (null, a blank string, an empty list) counts as absent.
"""

import dataclasses
import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
)

from editcollapse.config.field_paths import paths_of, value_at
from editcollapse.config.spec import FieldsSpec, digits
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
from editcollapse.fingerprints import digest, digest_file

_LOGGER = logging.getLogger(__name__)
_SHOWN_REASONS = 3
_SHOWN_IDS = 10
_SHOWN_PATHS = 12
_LOOKED_AT = 20
"""Records whose paths are named where none has what was asked for."""
_CASE_FIELD = "case_id"
_PARAPHRASES = ("rephrase_prompt", "rephrase")
"""EasyEdit's name for a paraphrase, and KnowEdit's."""
_FACT = "requested_rewrite"
_NATURAL_QUESTION = "nq question:"
_KNOWN = (
    "counterfact (requested_rewrite, paraphrase_prompts, ...), "
    "flat (subject, prompt, target_new, ...), zsre (subject, src, alt, ...) and "
    "qaedit (subject, prompt, target, ...); [dataset.fields] of a study maps any other"
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
    return [_leaf(item) for item in value] if isinstance(value, list) else _listed(value)


def _first(value: Any) -> Any:
    return value[:1] if isinstance(value, list) else _listed(value)


def _leaf(value: Any) -> Any:
    """The first of alternatives, of those of KnowEdit in lists of lists."""
    while isinstance(value, list) and value:
        value = value[0]
    return value


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
    KnowEdit's ``portability`` has groups of that form (Subject_Aliasing, Reasoning,
    Logical_Generalization); each of its prompts needs an answer.
    """

    case_id: CaseId = None
    subject: Subject
    prompt: OptionalSentence = None
    template: OptionalSentence = None
    target_new: Name
    target_true: Accepted = ()
    ground_truth: Accepted = ()
    rephrase_prompt: Prompts = Field((), validation_alias=AliasChoices(*_PARAPHRASES))
    locality_prompt: Prompts = ()
    locality_ground_truth: Answers = ()
    locality: Any = None
    portability: Any = None
    relation_id: OptionalName = None

    def request(self) -> EditRequest:
        """The edit request.

        Raises:
            RecordError: the prompt has not one slot or is not the template, or a probe that is no
                neighbor of the fact has no answer.
        """
        prompts, answers = self.locality_prompt, self.locality_ground_truth
        if isinstance(self.locality, dict) and not prompts:
            prompts, answers = _nested_probes("locality", self.locality)
        followed, expected = _nested_probes("portability", self.portability, is_needed=True)
        return EditRequest(
            subject=self.subject,
            prompt=self._slotted(),
            target_new=self.target_new,
            target_true=next(iter(self.target_true or self.ground_truth), None),
            paraphrase_prompts=self.rephrase_prompt,
            neighborhood_prompts=prompts,
            neighborhood_targets=_one_each(answers, prompts, "locality_ground_truth"),
            relation_id=self.relation_id,
            portability_prompts=followed,
            portability_targets=expected,
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


class _QaProbe(BaseModel):
    """A question of QAEdit about something else, and its answer."""

    loc: Annotated[Sentence, AfterValidator(_filled)]
    loc_ans: Name


class QaEditRecord(BaseModel):
    """QAEdit as published with "The Mirage of Model Editing": questions of three QA datasets."""

    case_id: CaseId = Field(None, validation_alias=AliasChoices("case_id", "id"))
    subject: Subject
    prompt: Sentence
    target: Name
    rephrase: Prompts = ()
    locality: Any = None

    def request(self) -> EditRequest:
        """The edit request. Raises RecordError without one slot, or for a fault in a probe."""
        probes = self._probes()
        return EditRequest(
            subject=self.subject,
            prompt=slotted_prompt(self.prompt, self.subject, "prompt"),
            target_new=self.target,
            target_true=None,
            paraphrase_prompts=self.rephrase,
            neighborhood_prompts=tuple(probe.loc for probe in probes),
            neighborhood_targets=tuple(probe.loc_ans for probe in probes),
        )

    def _probes(self) -> list[_QaProbe]:
        """The questions about something else; of one object that one."""
        if _is_empty(self.locality):
            return []
        found = []
        items = self.locality if isinstance(self.locality, list) else [self.locality]
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                where = "where an object with loc and loc_ans is expected; correct or remove it."
                raise RecordError(f"locality[{index}] is {describe(item)} {where}")
            found.append(_validated(_QaProbe, item, f"locality[{index}]."))
        return found


class MappedRecord(BaseModel):
    """A record of a schema of one's own, its fields found by a study's mapping."""

    case_id: CaseId = None
    subject: Subject
    prompt: Sentence
    target_new: Name
    target_true: Accepted = ()
    relation_id: OptionalName = None
    paraphrase_prompts: Prompts = ()
    neighborhood_prompts: Prompts = ()
    neighborhood_targets: Answers = ()
    portability_prompts: Prompts = ()
    portability_targets: Answers = ()

    def request(self) -> EditRequest:
        """The edit request. Raises RecordError without one slot, or an answer for each probe."""
        followed, expected = self.portability_prompts, self.portability_targets
        return EditRequest(
            subject=self.subject,
            prompt=slotted_prompt(self.prompt, self.subject, "prompt"),
            target_new=self.target_new,
            target_true=next(iter(self.target_true), None),
            paraphrase_prompts=self.paraphrase_prompts,
            neighborhood_prompts=self.neighborhood_prompts,
            neighborhood_targets=_one_each(
                self.neighborhood_targets, self.neighborhood_prompts, "neighborhood_targets"
            ),
            relation_id=self.relation_id,
            portability_prompts=followed,
            portability_targets=_one_each(
                expected, followed, "portability_targets", is_needed=True
            ),
        )


class _Probes(BaseModel):
    """A group of nested probes: prompts and their answers."""

    prompt: Prompts
    ground_truth: Answers = ()


_Record = CounterFactRecord | ZsreRecord | FlatRecord | QaEditRecord | MappedRecord
_ModelT = TypeVar("_ModelT", bound=BaseModel)
_MODELS: dict[str, type[_Record]] = {
    "counterfact": CounterFactRecord,
    "flat": FlatRecord,
    "zsre": ZsreRecord,
    "qaedit": QaEditRecord,
}
_MAPPED = "mapped"
"""What the schema of a file is called whose fields a study maps."""


def _nested_probes(
    field: str, nested: Any, *, is_needed: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Prompts and answers of all groups of a field such as ``locality``; none where it has none.

    Raises:
        RecordError: a prompt or an answer cannot be used, or an answer is missing.
    """
    if not isinstance(nested, dict):
        return (), ()
    found = [
        _probes(f"{field}.{name}", group, is_needed=is_needed) for name, group in _groups(nested)
    ]
    prompts = tuple(prompt for each in found for prompt in each[0])
    return prompts, tuple(answer for each in found for answer in each[1])


def _groups(nested: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The groups of nested probes that have prompts, with their names; others are ignored.

    As EasyEdit reads KnowEdit, so is one whose answer is there and blank.
    """
    for name, group in nested.items():
        for part in group if isinstance(group, list) else [group]:
            if not isinstance(part, dict) or _is_empty(part.get("prompt")):
                continue
            is_listed = isinstance(group, list) and "ground_truth" in part
            if is_listed and _is_empty(_leaf(part["ground_truth"])):
                continue
            yield name, part


def _probes(
    path: str, group: dict[str, Any], *, is_needed: bool
) -> tuple[Sequence[str], Sequence[str]]:
    """Prompts and answers of a group of nested probes. Raises RecordError for a fault."""
    prompt, found = group["prompt"], group.get("ground_truth")
    is_one = not isinstance(prompt, list) or len(prompt) == 1
    if is_one and isinstance(found, list) and found:
        found = [found]  # alternatives of the one answer
    group = {"prompt": prompt, "ground_truth": found}
    probes = _validated(_Probes, group, f"{path}.")
    answers = _one_each(
        probes.ground_truth, probes.prompt, f"{path}.ground_truth", is_needed=is_needed
    )
    return probes.prompt, answers


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


def _validated(
    model: type[_ModelT],
    value: dict[str, Any],
    prefix: str = "",
    called: Mapping[str, str] | None = None,
) -> _ModelT:
    """An object of a schema. Raises RecordError with a sentence for each fault."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RecordError(faults(error, prefix=prefix, called=called)) from error


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
    """``counterfact``, ``zsre``, ``qaedit`` or ``flat``; None for anything else."""
    if not isinstance(record, dict):
        return None
    if "requested_rewrite" in record:
        return "counterfact"
    if "src" in record or ("alt" in record and "prompt" not in record):
        return "zsre"
    if "prompt" in record and "target" in record and "target_new" not in record:
        return "qaedit"
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
    return _accepted(parsed, _validated(_MODELS[family], value))


def _accepted(parsed: ParsedRecord, record: _Record) -> RequestRecord:
    """A record's request, with where it came from. Raises RecordError where it is none."""
    request = record.request()
    if request.target_new == request.target_true:
        raise RecordError(
            f"target_new and target_true are both {shorten(repr(request.target_new))}; "
            "an edit needs two different objects."
        )
    return RequestRecord(parsed.index, record.case_id, request)


def _read_mapped(parsed: ParsedRecord, fields: FieldsSpec) -> RequestRecord:
    """A record whose fields stand where a study says. Raises RecordError where it is none."""
    value = parsed.json()
    found = {
        name: at.value
        for name, path in _mapped_fields(fields)
        if (at := value_at(value, path)).is_there
    }
    called = {name: f"{name} ({path})" for name, path in _mapped_fields(fields)}
    return _accepted(parsed, _validated(MappedRecord, found, called=called))


def _mapped_fields(fields: FieldsSpec) -> list[tuple[str, str]]:
    """Each field that is mapped, with its path."""
    return list(fields.model_dump(exclude_none=True).items())


def _check_mapping(path: Path, records: Sequence[Any], fields: FieldsSpec) -> None:
    """Raise DatasetError where no record has what a path leads to; it names what is there."""
    for name, asked in _mapped_fields(fields):
        if any(value_at(record, asked).is_there for record in records):
            continue
        looked_at = records[:_LOOKED_AT]
        there = {shorten(each): None for record in looked_at for each in paths_of(record)}
        nearest = nearest_first(asked, there).split(", ")
        shown = ", ".join(nearest[:_SHOWN_PATHS]) + (" and others" * (len(nearest) > _SHOWN_PATHS))
        raise DatasetError(
            f"`dataset.fields.{name}` is {asked!r}, where none of {len(records)} records of {path} "
            f"has anything; they have {shown or 'no fields'}."
        )


def _rejection(parsed: ParsedRecord, reason: str, case_path: str) -> Rejection:
    """A rejected record, with its case id where that can be used."""
    at = value_at(parsed.value, case_path)
    try:
        case_id = _CASE_ID.validate_python(at.value)
    except ValidationError:
        case_id = None
    return Rejection(parsed.index, case_id, reason)


def read_requests(path: Path, fields: FieldsSpec | None = None) -> RequestFile:
    """The edit requests of a JSON list or JSONL file, and a rejection for each other record.

    The schema is the one that most records have; records of another one are rejected. Subjects and
    targets lose surrounding blanks, prompts are left as they are.

    Args:
        path: UTF-8, with or without a byte order mark.
        fields: where the fields stand in records of a schema of one's own; None: the schema is
            recognised.

    Raises:
        DatasetError: the file is missing, a folder, empty, not UTF-8, malformed as a JSON document,
            of an unknown schema, or without one usable record (with the first reasons); or no
            record has one of the fields.
    """
    parsed = read_json_records(path, "a file of edit requests")
    values = [record.value for record in parsed]
    if fields is not None:
        _check_mapping(path, values, fields)
        case_path = fields.case_id or _CASE_FIELD
        content = digest("mapped", digest_file(path), fields)
        return _request_file(
            path, parsed, _MAPPED, lambda each: _read_mapped(each, fields), case_path, content
        )
    found = _schema_of_file(values)
    if found is None:
        problems = [record.problem for record in parsed if record.problem is not None]
        why = f" ({problems[0].rstrip('.')})" if problems else ""
        raise DatasetError(
            f"edit requests were asked from {path}, where none of {len(parsed)} records has a "
            f"known schema{why}. Known are {_KNOWN}."
        )
    family, schema = found
    case_path = "id" if family == "qaedit" else _CASE_FIELD
    return _request_file(
        path,
        parsed,
        schema,
        lambda each: _read_record(each, family),
        case_path,
        digest_file(path),
    )


def _request_file(
    path: Path,
    parsed: Sequence[ParsedRecord],
    schema: str,
    read: Callable[[ParsedRecord], RequestRecord],
    case_path: str,
    content_digest: str,
) -> RequestFile:
    """The file's requests and rejections. Raises DatasetError where no record can be used."""
    records: list[RequestRecord] = []
    rejections: list[Rejection] = []
    for record in parsed:
        try:
            records.append(read(record))
        except RecordError as error:
            rejections.append(_rejection(record, str(error), case_path))
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
        content_digest=content_digest,
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
