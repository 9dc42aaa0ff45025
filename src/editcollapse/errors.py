"""One small tree of errors; each message says what was asked, what was found, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class EditCollapseError(Exception):
    """Anything a user can mend. The command line prints it without a traceback and exits with 2."""

    is_transient: ClassVar[bool] = False
    """Whether the same work may succeed a minute later."""


class StudyError(EditCollapseError, ValueError):
    """The study file, or a value in it, cannot be used."""


class DatasetError(EditCollapseError, ValueError):
    """A file of edit requests, texts or templates is missing, empty or of an unknown form."""


class ModelError(EditCollapseError, ValueError):
    """The model or its tokenizer cannot be loaded or does not fit what was asked of it."""


class UnknownFamilyError(ModelError, LookupError):
    """No architecture row describes this model."""


class MomentError(EditCollapseError, ValueError):
    """A second moment is missing, of the wrong shape, or has no Cholesky factor."""


class ArtifactError(EditCollapseError, RuntimeError):
    """A stored file is missing or its content no longer matches its digest."""


class DeviceMemoryError(EditCollapseError, MemoryError):
    """The smallest piece of work does not fit in the memory of the device."""

    is_transient = True


class ResultsError(EditCollapseError, RuntimeError):
    """The results folder or database cannot be read or written."""


def nearest_first(asked: str, known: Iterable[str]) -> str:
    """Return the known names as one string, those nearest to what was asked first."""
    names = sorted(known)
    near = get_close_matches(asked, names, n=len(names), cutoff=0.6)
    return ", ".join([*near, *(name for name in names if name not in near)])


def first_line(error: Exception) -> str:
    """Return the first line of what a library's error says; its type where it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0] if said else repr(error)
