"""Measure how single model edits collapse a language model.

The library without Prefect or DuckDB: ``Editor`` edits one model, ``forecast_edit`` tells what an
edit can do before it is made. Names are imported when they are first used; torch comes with the
first computation. Importing the package sets how OpenMP's threads wait (``openmp``).

Letters used for shapes in every docstring:
    B edits · P context templates · N texts or prompts · T tokens
    D d_model · K d_key · V vocabulary
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from editcollapse.openmp import share_cores

share_cores()  # here, since OpenMP reads its settings once, when torch is imported

__version__ = "0.1.0"

NUMERICS = 1
"""Version of the numbers, part of every cache key; bumped when equal inputs give other numbers."""

if TYPE_CHECKING:
    from editcollapse.api import (
        EDITORS,
        METHODS,
        Edit,
        EditedModel,
        EditForecast,
        Editor,
        EditorSpec,
        EditRequest,
        JointEdit,
        forecast_edit,
        load_model,
        read_requests,
    )

__all__ = [
    "EDITORS",
    "METHODS",
    "NUMERICS",
    "Edit",
    "EditForecast",
    "EditRequest",
    "EditedModel",
    "Editor",
    "EditorSpec",
    "JointEdit",
    "__version__",
    "forecast_edit",
    "load_model",
    "read_requests",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module("editcollapse.api"), name)
    return found


def __dir__() -> list[str]:
    """Names of the package, those that are not imported yet among them."""
    return sorted({*globals(), *__all__})
