"""The rule that calls an edit a collapse: one type, one default, one sentence.

The same rule as the database's macros ``collapsed`` and ``perplexity_by``
(``storage/sql/views/10_collapsed.sql``).
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol, get_args

from editcollapse.errors import StudyError

DAMAGE_RATIO = 2.0
"""Times the unedited model's perplexity above which an edit has done damage, if not a collapse;
below, what the model writes shows nothing."""


Measure = Literal["mean", "nll", "median"]
"""Which figure of a text set is its perplexity: the mean over texts (published), exp of the mean
over texts of the mean token NLL, or the median over texts."""
MEASURES: dict[str, str] = {
    "mean": "mean over texts",
    "nll": "exp(mean NLL)",
    "median": "median over texts",
}
"""Each measure in words."""


class Measured(Protocol):
    """Protocol of a row with the figures of a text set."""

    @property
    def perplexity(self) -> float:
        """Arithmetic mean over texts."""

    @property
    def perplexity_median(self) -> float:
        """Median over texts."""

    @property
    def nll_mean(self) -> float:
        """Mean over texts of the mean token NLL, nats."""


@dataclasses.dataclass(frozen=True, slots=True)
class CollapseRule:
    """When an edit has collapsed its model: its perplexity is nan, inf, or above either bound."""

    threshold: float | None = 1000.0
    """Perplexity, of a model that stood at or below it unedited; None: it does not count."""
    ratio: float | None = 10.0
    """Times the unedited model's perplexity; None: it does not count."""
    measure: Measure = "mean"
    """Which figure of the text set is its perplexity. The mean can hang on one text."""

    def __post_init__(self) -> None:
        """Check the rule. Raises StudyError: a bound is no positive finite number; no measure."""
        if self.measure not in get_args(Measure):
            raise StudyError(
                f"the collapse rule's measure is {self.measure!r}; give mean, nll or median."
            )
        for name in ("threshold", "ratio"):
            bound: Any = getattr(self, name)
            if bound is None:
                continue
            number = isinstance(bound, int | float) and not isinstance(bound, bool)
            if not number or not math.isfinite(bound) or bound <= 0:
                raise StudyError(
                    f"the collapse rule's {name} is {bound!r}; give a positive finite number, or "
                    "none."
                )
            object.__setattr__(self, name, float(bound))

    def collapsed(self, perplexity: float | None, perplexity_before: float | None) -> bool | None:
        """Whether an edit collapsed its model; None where its perplexity is not known.

        Args:
            perplexity: of the edited model, by the rule's measure; nan and inf are collapses.
            perplexity_before: of the unedited model; where it is None the ratio does not count,
                and the threshold alone decides.
        """
        if perplexity is None:
            return None
        if not math.isfinite(perplexity):
            return True
        before = perplexity_before
        # A model that stands above the threshold unedited has not been brought there by an edit.
        threshold = math.inf if self.threshold is None else self.threshold
        if perplexity > threshold and (before is None or before <= threshold):
            return True
        return self.ratio is not None and before is not None and perplexity > self.ratio * before

    def perplexity_of(self, measured: Measured) -> float:
        """Return the figure that the rule looks at of what was measured on a text set."""
        if self.measure == "mean":
            return measured.perplexity
        if self.measure == "median":
            return measured.perplexity_median
        try:
            return math.exp(measured.nll_mean)
        except OverflowError:
            return math.inf

    def sentence(self) -> str:
        """The rule in words, for reports: what counts as a collapse."""
        found = []
        if self.threshold is not None:
            found.append(f"above {self.threshold:.10g} (and not so unedited)")
        if self.ratio is not None:
            found.append(f"above {self.ratio:.10g} times the unedited model's")
        by = "" if self.measure == "mean" else f" ({MEASURES[self.measure]})"
        found.append("or " * bool(found) + "no finite number")
        return f"collapsed: perplexity{by} {', '.join(found)}"


def otherwise(counts: Mapping[str, Any], measure: Measure) -> str:
    """What another measure counts, in brackets, where it counts otherwise; empty where it does not.

    ``18 of 47`` by the mean over texts may be ``(11 by exp(mean NLL))``: said beside the count.

    Args:
        counts: ``n_by_mean`` and ``n_by_nll``, as view ``collapse_incidence`` has them.
        measure: what the count was made by.
    """
    other: Measure = "nll" if measure == "mean" else "mean"
    found = int(counts[f"n_by_{other}"])
    is_same = found == int(counts[f"n_by_{measure}"])
    return "" if is_same else f" ({found:,} by {'the ' * (other == 'mean')}{MEASURES[other]})"


DEFAULT_RULE = CollapseRule()
