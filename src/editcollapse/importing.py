"""Read others' results into rows; what cannot be used is rejected record by record."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from editcollapse.data.records import (
    ParsedRecord,
    RecordError,
    parse_json,
    read_json_records,
    shorten,
    value_of,
)
from editcollapse.easyedit_results import easyedit_rows
from editcollapse.errors import DatasetError
from editcollapse.fingerprints import digest, digest_bytes
from editcollapse.imported_outcomes import ImportedEditRow, ImportedRejectionRow, ImportedRunRow
from editcollapse.memit_results import memit_rows

Format = Literal["memit", "easyedit"]
FORMATS: tuple[Format, ...] = ("memit", "easyedit")
MAX_CASE_BYTES = 16 << 20
"""A case file of kmeng01/memit with all its generated text has some ten thousand bytes."""
MAX_LIST_BYTES = 1 << 30
_CASE = re.compile(r"case_(\d+)\.json")
_NEVER_KNOWN = ("perplexity on a text set", "denominator", "update norm", "layer and settings")
"""What neither program writes down."""
_READERS: dict[Format, Callable[[Any, str, int], list[ImportedEditRow]]] = {
    "memit": memit_rows,
    "easyedit": easyedit_rows,
}


@dataclasses.dataclass(frozen=True, slots=True)
class ImportedRun:
    """Everything that an import leaves in the database."""

    run: ImportedRunRow
    edits: tuple[ImportedEditRow, ...]
    rejections: tuple[ImportedRejectionRow, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """A record with the place where a reader finds it, and the digest of what it was read from."""

    record: ParsedRecord
    place: str
    digest: str


def read_foreign_results(
    source: Path, form: Format, *, name: str = "", model: str = "", method: str = ""
) -> ImportedRun:
    """Return others' results as rows.

    Args:
        source: for ``memit`` a run folder, with a file ``…case_N.json`` for each request, or one
            such file; for ``easyedit`` the JSON list that ``editor.edit`` writes.
        form: which program wrote it.
        name: what to call the run; left out, the last part of the path.
        model: what was edited, which neither program writes down; empty where it is not known.
        method: how, likewise.

    Returns:
        The rows. Equal content with equal names has an equal ``import_id``.

    Raises:
        DatasetError: the source cannot be read, or no record in it can be used.
    """
    found = list(_case_files(source) if form == "memit" else _entries(source))
    called = name.strip() or source.absolute().name
    content = digest([(one.place, one.digest) for one in found])
    import_id = digest("import", form, called, model, method, content)
    edits: list[ImportedEditRow] = []
    rejections: list[ImportedRejectionRow] = []
    for index, one in enumerate(found):
        try:
            edits += _READERS[form](value_of(one.record), import_id, index)
        except RecordError as error:
            rejections.append(ImportedRejectionRow(import_id, index, one.place, str(error)))
    if not edits:
        why = f" The first one: {rejections[0].place}: {rejections[0].reason}" if rejections else ""
        raise DatasetError(
            f"results in the format {form} were asked from {source}, and none of its {len(found)} "
            f"records can be used.{why} Check --format; known: {', '.join(FORMATS)}."
        )
    run = ImportedRunRow(
        import_id=import_id,
        source=called,
        format=form,
        model=model or None,
        method=method or None,
        n_records=len(found),
        n_edits=sum(row.phase == "post" for row in edits),
        n_rejected=len(rejections),
        unknown=", ".join([*_NEVER_KNOWN, *_empty_columns(edits)]),
    )
    return ImportedRun(run, tuple(edits), tuple(rejections))


def _case_files(source: Path) -> Iterator[_Found]:
    """Yield the case files of a run folder in the order of their numbers, or a single one."""
    if source.is_dir():
        paths = [path for path in source.iterdir() if _CASE.search(path.name)]
    else:
        paths = [source]
    if not paths or not (source.is_dir() or source.is_file()):
        raise DatasetError(
            f"results of kmeng01/memit were asked from {source}, which has no file that ends in "
            "case_N.json. Name the run's folder, such as results/MEMIT/run_000."
        )
    numbered = sorted(paths, key=lambda path: (_number(path), path.name))
    for index, path in enumerate(numbered):
        yield _case_file(path, index)


def _case_file(path: Path, index: int) -> _Found:
    """Return the record of one file, or why there is none."""
    place = shorten(path.name)
    if path.is_symlink() or not path.is_file():
        problem = "it is a link or no file, and is not followed."
        return _Found(ParsedRecord(index, None, None, problem), place, "")
    try:
        if path.stat().st_size > MAX_CASE_BYTES:
            problem = f"it has more than {MAX_CASE_BYTES} bytes, which no case file has."
            return _Found(ParsedRecord(index, None, None, problem), place, "")
        data = path.read_bytes()
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}."
        return _Found(ParsedRecord(index, None, None, problem), place, "")
    try:
        value, problem_found = parse_json(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        value, problem_found = None, "it is not UTF-8."
    return _Found(ParsedRecord(index, None, value, problem_found), place, digest_bytes(data))


def _number(path: Path) -> int:
    """Return the number in a case file's name."""
    found = _CASE.search(path.name)
    return int(found.group(1)[:18]) if found else 0


def _entries(source: Path) -> Iterator[_Found]:
    """Yield the entries of a list of metrics."""
    if source.is_file() and source.stat().st_size > MAX_LIST_BYTES:
        raise DatasetError(
            f"results of EasyEdit were asked from {source}, which has more than {MAX_LIST_BYTES} "
            "bytes. Split the list."
        )
    for record in read_json_records(source, "results of EasyEdit"):
        yield _Found(record, record.place, _digest_of(record))


def _digest_of(record: ParsedRecord) -> str:
    """Return a digest of an entry's content; an entry that is nested without end has none."""
    try:
        return digest_bytes(json.dumps(record.value, sort_keys=True).encode())
    except (RecursionError, ValueError):
        return ""


def _empty_columns(edits: list[ImportedEditRow]) -> Iterator[str]:
    """Yield the columns in which no row has a value."""
    for field in dataclasses.fields(ImportedEditRow):
        if all(getattr(row, field.name) is None for row in edits):
            yield field.name
