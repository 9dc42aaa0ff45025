"""Prefect's records of finished tasks: where they lie, and a look at each before Prefect reads it.

A record says itself with what it is to be read, a pickle or any class by name included, and
Prefect does as it says. A results folder may come from anybody, so a record that is not of the
one form that our tasks leave is removed before Prefect sees it: its unit is then looked up among
the manifests, or computed.
"""

import json
import logging
from pathlib import Path
from typing import Any

from editcollapse.study.jobs import Order
from editcollapse.study.results_folder import place_of

logger = logging.getLogger(__name__)

RECORDS = "records"
"""Folder below the results folder, or its mirror, where Prefect keeps what each task returned."""

_CLASSES = frozenset({"editcollapse.study.jobs.Manifest"})
_SERIALIZER = {
    "type": "json",
    "jsonlib": "json",
    "object_encoder": "prefect.serializers.prefect_json_object_encoder",
    "object_decoder": "prefect.serializers.prefect_json_object_decoder",
}
"""What the serializer of a record of ours says of itself, but for what it leaves empty."""


def records_folder(results: str) -> Path:
    """Return the folder of the records of a results folder, on this machine."""
    return place_of(results).here / RECORDS


def has_record(order: Order) -> bool:
    """Return whether an earlier run has left a record of a task; without one it runs anyway."""
    return (records_folder(order.results) / order.key).exists()


def remove_foreign_record(folder: Path, order: Order) -> bool:
    """Remove a task's record unless it is one of ours; return whether it was removed.

    Args:
        folder: the records' folder.
        order: the task's argument; one without a key has no record.
    """
    record = folder / order.key
    try:
        text = record.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError):
        text = ""
    if _is_ours(text):
        return False
    logger.warning("removed the record %s: it is damaged, or none of ours", record.name)
    record.unlink(missing_ok=True)
    return True


def _is_ours(text: str) -> bool:
    """Return whether a record is JSON throughout and names no class but our own."""
    try:
        record = json.loads(text)
        said = record["metadata"]["serializer"].items()
        serializer = {name: value for name, value in said if value not in (None, {})}
        result = json.loads(record["result"])
        return serializer == _SERIALIZER and set(_classes(result)) <= _CLASSES
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _classes(value: Any) -> list[str]:
    """Return the names of all classes that Prefect would make objects of."""
    if isinstance(value, dict):
        own = [str(value[name]) for name in ("__class__", "__exc_type__") if name in value]
        return own + [name for item in value.values() for name in _classes(item)]
    if isinstance(value, list):
        return [name for item in value for name in _classes(item)]
    return []
