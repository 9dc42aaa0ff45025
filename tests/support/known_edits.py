"""Edits as the database tells of them, for tests that have none."""

import dataclasses
import types
import typing

from editcollapse.config.spec import ModelSpec
from editcollapse.study.known_updates import KnownEdit

SPEC = ModelSpec(name="tiny", source="/somewhere/tiny")
_DEFAULTS = {str: "x", int: 1, ModelSpec: SPEC}


def known_edit(**values):
    """Return an edit by rome of layer 1; what may be None is, other texts are x."""
    values = {"method": "rome", "update_digest": "d", "update_row": 0, **values}
    hints = typing.get_type_hints(KnownEdit)
    for field in dataclasses.fields(KnownEdit):
        hint = hints[field.name]
        default = None if isinstance(hint, types.UnionType) else _DEFAULTS[hint]
        values.setdefault(field.name, default)
    return KnownEdit(**values)
