"""Settings of a machine: every EDITCOLLAPSE_* variable of the environment, read and checked here.

Nothing here enters a key or an id; of the numbers, only ``tf32`` changes any. The standard library
is enough: GPU benchmarks run where neither pydantic nor pydantic-settings is installed.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from editcollapse.errors import StudyError

PREFIX = "EDITCOLLAPSE_"


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ValueError
    return int(text)


def _positive_seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ValueError
    return seconds


def _one_of(choices: Mapping[str, Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if text not in choices:
            raise ValueError
        return choices[text]

    return parse


def _variable(
    default: Any,
    shown: str,
    description: str,
    *,
    must_be: str = "",
    parse: Callable[[str], Any] = str,
    secret: bool = False,
) -> Any:
    """Return a field of the settings.

    Args:
        default: its value where the variable is not set.
        shown: the default in words, for the documentation.
        description: what it does, a sentence of Markdown.
        must_be: what a usable value is, for the error.
        parse: returns the value of a text; raises ValueError where it is none.
        secret: whether the settings are shown without it.
    """
    words = {"shown": shown, "description": description, "must_be": must_be, "parse": parse}
    return dataclasses.field(default=default, metadata=words, repr=not secret)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Settings of this process, from its environment: ``EDITCOLLAPSE_`` and a field's name."""

    device: str = _variable(
        "auto",
        "`auto`",
        "A torch device. `auto`: the accelerator where there is one, else the CPU.",
    )
    tokens_per_forward: int | None = _variable(
        None,
        "by estimate",
        "Padded tokens of one forward at most. Numbers do not depend on it beyond rounding; on one "
        "CPU v\\* of equal runs has equal bytes where it, or the estimate, and the number of "
        "threads (`OMP_NUM_THREADS`) are the same.",
        must_be="a positive whole number",
        parse=_positive_int,
    )
    tf32: bool = _variable(
        False,
        "`0`",
        "`1` allows TF32 products on accelerators. It changes numbers.",
        must_be="0 or 1",
        parse=_one_of({"0": False, "1": True}),
    )
    device_lock: str = _variable(
        "auto",
        "`auto`",
        "`always`: one process at a time computes on the CPU too, not only on an accelerator.",
        must_be="auto or always",
        parse=_one_of({"auto": "auto", "always": "always"}),
    )
    device_lock_folder: str = _variable(
        "", "the user's runtime folder", "Where the device locks lie."
    )
    unit_timeout_s: float | None = _variable(
        None,
        "none",
        "Seconds that one job may take; after them its process ends.",
        must_be="a positive number of seconds",
        parse=_positive_seconds,
    )
    cache: str = _variable("", "the user's cache folder", "Local copies of results at a URL.")
    reports_url: str = _variable(
        "", "links are `file://`", "Where `reports/` is served, for the links on run pages."
    )
    results: str = _variable(
        "results", "`results`", "The results folder that deployments write to, at registration."
    )
    judge_key: str = _variable(
        "",
        "none",
        "Key of the judge of free answers (`[evaluation.judge]`). It is sent to the judge alone, "
        "over https or on this machine, and stored nowhere.",
        secret=True,
    )
    run: str = _variable(
        "", "none", "Set by a command for its temporary Prefect server; not to be set by hand."
    )


def settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings of this process; what is not set has its default.

    Raises:
        StudyError: a variable has a value that it cannot have.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Settings):
        name = variable_name(field.name)
        text = environment.get(name)
        if text is None:
            continue
        try:
            values[field.name] = field.metadata["parse"](text)
        except ValueError as error:
            raise StudyError(
                f"{name} is {text!r}; it must be {field.metadata['must_be']}."
            ) from error
    return Settings(**values)


def variable_name(field: str) -> str:
    """Name the environment variable of a field: ``EDITCOLLAPSE_TF32`` of ``tf32``."""
    return f"{PREFIX}{field.upper()}"


def settings_table() -> Iterator[str]:
    """Yield the rows of the documentation's table of variables, in Markdown."""
    yield "| variable | default | what it does |"
    yield "|---|---|---|"
    for field in dataclasses.fields(Settings):
        words = field.metadata
        yield f"| `{variable_name(field.name)}` | {words['shown']} | {words['description']} |"
