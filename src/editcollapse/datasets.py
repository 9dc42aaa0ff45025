"""Files of edit requests: CounterFact and zsRE in four schemas; every rejection is explained."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from editcollapse.dataset_schemas import KNOWN, request_of, schema_of_file
from editcollapse.errors import DatasetError, nearest_first
from editcollapse.fingerprints import digest_file
from editcollapse.json_files import ParsedRecord, read_json_records
from editcollapse.record_fields import RecordError, case_id_of, value_of
from editcollapse.request_fields import check_lengths
from editcollapse.requests import Rejection, RequestFile, RequestRecord

_LOGGER = logging.getLogger(__name__)
_SHOWN_REASONS = 3
_SHOWN_IDS = 10


def read_requests(path: Path) -> RequestFile:
    """Return the edit requests of a JSON list or JSONL file, and a rejection for each other record.

    The schema is the one that most records have (``dataset_schemas``); records of another one are
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
