"""The licence of an unedited model, as its own card names it."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from editcollapse.models.files import ModelFiles

UNKNOWN = "unknown - see base model"
_HEADER = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_LARGEST_CARD = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Licence:
    """The licence fields of a model card."""

    license: str
    """An identifier of the hub, or ``UNKNOWN``."""
    license_name: str | None = None
    """Where the identifier is ``other``."""
    license_link: str | None = None


def licence_of(files: ModelFiles | None) -> Licence:
    """Return a model's licence: of the card beside its weights, or as its GGUF file says.

    Args:
        files: of the model; None where they are not known.
    """
    if files is None:
        return Licence(UNKNOWN)
    fields = _card_fields(files.folder / "README.md")
    found = _text(fields.get("license"))
    if found is None and files.gguf is not None:
        found = files.gguf.licence
    if found is None:
        return Licence(UNKNOWN)
    return Licence(found, _text(fields.get("license_name")), _text(fields.get("license_link")))


def _card_fields(path: Path) -> dict[str, Any]:
    """Return the header of a model card; nothing where there is none that can be read."""
    import yaml

    try:
        if path.stat().st_size > _LARGEST_CARD:
            return {}
        header = _HEADER.match(path.read_text(encoding="utf-8"))
        found = yaml.safe_load(header[1]) if header else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str | None:
    """Return a field's text; of a list, all of them."""
    if isinstance(value, list):
        value = ", ".join(each for each in value if isinstance(each, str))
    return value if isinstance(value, str) and value.strip() else None
