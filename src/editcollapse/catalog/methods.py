"""The methods as rows: which key each one solves with, divides by, and what it writes.

All of them write ``W' = W + r uᵀ / (a · u)`` with ``u = C⁻¹b / ‖C⁻¹b‖``; one v* serves them all.

Sources: ROME as coded (kmeng01/rome, arXiv 2202.05262); C-ROME (arXiv 2406.11263); r-ROME and
p-ROME (arXiv 2403.07175); v-relative (ZhengKeli/zkl-knowedit-rome).
"""

import dataclasses
from typing import Literal

from editcollapse.errors import StudyError, nearest_first

KeyChoice = Literal["bare", "prefixed"]
MethodName = Literal["rome", "c_rome", "r_rome", "p_rome", "v_relative"]
"""The names of ``METHODS``, for type checkers and options; a test compares them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """One row of the family."""

    name: str
    title: str
    """As its paper writes it."""
    solve_with: KeyChoice
    """b: the key that C⁻¹ is applied to."""
    divide_with: KeyChoice
    """a: the key in the denominator a · u."""
    value_from: KeyChoice
    """The residual is r = v0 + delta - value(value_from); with ``bare`` it is delta itself."""
    source: str

    @property
    def rule(self) -> tuple[KeyChoice, KeyChoice, KeyChoice]:
        """What decides the update: methods with equal rules write equal updates."""
        return (self.solve_with, self.divide_with, self.value_from)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("rome", "ROME", "prefixed", "bare", "bare", "ROME as coded, arXiv 2202.05262"),
        Method("c_rome", "C-ROME", "prefixed", "prefixed", "prefixed", "C-ROME, arXiv 2406.11263"),
        Method("r_rome", "r-ROME", "prefixed", "prefixed", "prefixed", "r-ROME, arXiv 2403.07175"),
        Method("p_rome", "p-ROME", "bare", "bare", "bare", "p-ROME, arXiv 2403.07175"),
        Method("v_relative", "v-relative", "prefixed", "prefixed", "bare", "zkl-knowedit-rome"),
    )
}


def method_of(name: str) -> Method:
    """Return a method's row.

    Raises:
        StudyError: there is none; the message lists those that exist.
    """
    if name not in METHODS:
        raise StudyError(f"no method {name!r}. Known: {nearest_first(name, METHODS)}.")
    return METHODS[name]


def method_title(name: str) -> str:
    """Return a method's name as its paper writes it; one that the catalog lacks, as it is."""
    return METHODS[name].title if name in METHODS else name


def distinct_rules(names: tuple[str, ...]) -> dict[str, str]:
    """Return method name to the first of the names with the same rule, itself included.

    An update is computed and measured once for each rule and recorded under each name.
    """
    first: dict[tuple[KeyChoice, KeyChoice, KeyChoice], str] = {}
    return {name: first.setdefault(method_of(name).rule, name) for name in names}
