"""Text sets for perplexity (ME-PPL and the like) and files of context templates, as they stand."""

import dataclasses
import logging
from pathlib import Path

from editcollapse.config.spec import EvaluationSpec
from editcollapse.data.records import (
    LINE_SUFFIXES,
    ParsedRecord,
    RecordError,
    iter_lines,
    read_json_records,
    shorten,
    text,
    text_of_item,
)
from editcollapse.data.requests import SLOT, Rejection
from editcollapse.errors import DatasetError
from editcollapse.fingerprints import digest_file

_LOGGER = logging.getLogger(__name__)
_WANTED = "a text set"
_WANTED_TEMPLATES = "a file of context templates"

NEUTRAL_TEXTS = Path(__file__).with_name("neutral_english.jsonl")
"""Fifty texts of about ninety words, neutral and factual, on fifty subjects, written for this
package: what perplexity is measured on where nothing else is named."""


def texts_file(spec: EvaluationSpec) -> Path:
    """Return the file of the texts that a study measures perplexity on."""
    return NEUTRAL_TEXTS if spec.texts is None else Path(spec.texts)


@dataclasses.dataclass(frozen=True, slots=True)
class TextSet:
    """The texts on which perplexity is measured."""

    name: str
    """File name without folder and suffix; what reports show."""
    content_digest: str
    """Digest of the file's bytes: the text set's identity."""
    texts: tuple[str, ...]
    rejections: tuple[Rejection, ...] = ()


def read_texts(path: Path) -> TextSet:
    """The texts of a file, with leading blanks kept: they change the first token.

    A ``.json`` file is a list, a ``.jsonl`` or ``.ndjson`` file has one entry a line; an entry is a
    string or an object with ``Text`` or ``text`` (ME-PPL: ``{"Corpus": ..., "Text": ...}``). A
    ``.txt`` file holds one text per line; blank lines are skipped, so a text of several paragraphs
    needs JSON. Line ends at the end of a text are removed, all else stays.

    Args:
        path: UTF-8, with or without a byte order mark.

    Raises:
        DatasetError: the file is missing, a folder, of another suffix, not UTF-8, malformed as a
            JSON document, or without one usable text.
    """
    suffix = path.suffix.lower()
    if suffix == ".txt":
        lines = enumerate(line for line in iter_lines(path, _WANTED) if line.strip())
        parsed = [ParsedRecord(index, None, line) for index, line in lines]
    elif suffix == ".json" or suffix in LINE_SUFFIXES:
        parsed = read_json_records(path, _WANTED)
    else:
        raise DatasetError(
            f"{_WANTED} was asked from {path}, whose suffix {suffix!r} is unknown. "
            "Use .json, .jsonl or .txt."
        )
    texts: list[str] = []
    rejections: list[Rejection] = []
    for record in parsed:
        try:
            texts.append(_text_of(record))
        except RecordError as error:
            rejections.append(Rejection(record.index, None, str(error)))
    if not texts:
        why = (
            f" (record {rejections[0].record_index}: {rejections[0].reason})" if rejections else ""
        )
        raise DatasetError(
            f"{_WANTED} was asked from {path}, which holds no usable text{why}. Give at least one."
        )
    if rejections:
        _LOGGER.warning("%s: %d of %d texts rejected", path, len(rejections), len(parsed))
    return TextSet(path.stem, digest_file(path), tuple(texts), tuple(rejections))


def _text_of(record: ParsedRecord) -> str:
    """One text. Raises RecordError where the entry has none."""
    found = text_of_item(record.json(), None)
    if found is None:
        raise RecordError("the text is empty; remove the entry or give it a text.")
    return found.rstrip("\r\n")


def read_templates(path: Path) -> tuple[str, ...]:
    """The context templates of a JSON list, the bare ``{}`` first, the others in file order.

    Each is a string with exactly one slot, at its end: the prompt is continued with the target, so
    nothing may stand between them. Other braces are text.

    Args:
        path: a JSON list such as ``["{}", "The weather was fine. {}"]``.

    Raises:
        DatasetError: the file is missing, malformed or empty, an entry is no such string or occurs
            twice, or the bare ``{}`` is not among them.
    """
    templates: list[str] = []
    for record in read_json_records(path, _WANTED_TEMPLATES):
        try:
            templates.append(_template_of(record, templates))
        except RecordError as error:
            raise DatasetError(
                f"template {record.index} of {path} cannot be used: {error}"
            ) from error
    if SLOT not in templates:
        raise DatasetError(
            f"{_WANTED_TEMPLATES} was asked from {path}, whose {len(templates)} templates lack the "
            f'bare prompt. Add "{SLOT}" as the first one.'
        )
    templates.remove(SLOT)
    return (SLOT, *templates)


def _template_of(record: ParsedRecord, others: list[str]) -> str:
    """One template. Raises RecordError where it is none, or stands among the others."""
    template = text(record.json(), "it")
    n_slots = template.count(SLOT)
    if n_slots != 1 or not template.endswith(SLOT):
        raise RecordError(
            f"it has {n_slots} slots {SLOT} in {shorten(repr(template))}; write exactly one, at "
            "the end."
        )
    if template in others:
        raise RecordError(
            f"{shorten(repr(template))} is there already, as template {others.index(template)}; "
            "remove one, or its key counts twice."
        )
    return template
