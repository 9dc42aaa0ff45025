"""Context templates from a file: the bare prompt, and texts that stand before it."""

from pathlib import Path

from editcollapse.errors import DatasetError
from editcollapse.json_files import read_json_records
from editcollapse.record_fields import RecordError, shorten, text, value_of
from editcollapse.requests import SLOT

_WANTED = "a file of context templates"


def read_templates(path: Path) -> tuple[str, ...]:
    """Return the context templates of a JSON list, the bare ``{}`` first, the others in file order.

    Each is a string with exactly one slot, at its end: the prompt is continued with the target, so
    nothing may stand between them. Other braces are text.

    Args:
        path: a JSON list such as ``["{}", "The weather was fine. {}"]``.

    Raises:
        DatasetError: the file is missing, malformed or empty, an entry is no such string or occurs
            twice, or the bare ``{}`` is not among them.
    """
    templates: list[str] = []
    for record in read_json_records(path, _WANTED):
        try:
            template = text(value_of(record), "it")
        except RecordError as error:
            raise DatasetError(f"{_at(path, record.index)}: {error}") from error
        n_slots = template.count(SLOT)
        if n_slots != 1 or not template.endswith(SLOT):
            raise DatasetError(
                f"{_at(path, record.index)}: it has {n_slots} slots {SLOT} in "
                f"{shorten(repr(template))}; write exactly one, at the end."
            )
        if template in templates:
            raise DatasetError(
                f"{_at(path, record.index)}: {shorten(repr(template))} is there already, as "
                f"template {templates.index(template)}; remove one, or its key counts twice."
            )
        templates.append(template)
    if SLOT not in templates:
        raise DatasetError(
            f"{_WANTED} was asked from {path}, whose {len(templates)} templates lack the bare "
            f'prompt. Add "{SLOT}" as the first one.'
        )
    templates.remove(SLOT)
    return (SLOT, *templates)


def _at(path: Path, index: int) -> str:
    return f"template {index} of {path} cannot be used"
