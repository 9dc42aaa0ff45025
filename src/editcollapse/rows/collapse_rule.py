"""The rule that calls an edit a collapse: one type, one default, one sentence.

The same rule as the database's macro ``collapsed`` (``storage/sql/views/10_collapsed.sql``).
"""

import dataclasses
import math
from typing import Any

from editcollapse.errors import StudyError

DAMAGE_RATIO = 2.0
"""Times the unedited model's perplexity above which an edit has done damage, if not a collapse;
below, what the model writes shows nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class CollapseRule:
    """When an edit has collapsed its model: its perplexity is nan, inf, or above either bound."""

    threshold: float | None = 1000.0
    """Perplexity, of a model that stood at or below it unedited; None: it does not count."""
    ratio: float | None = 10.0
    """Times the unedited model's perplexity; None: it does not count."""

    def __post_init__(self) -> None:
        """Check both bounds. Raises StudyError where one is no positive finite number."""
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
            perplexity: of the edited model; nan and inf are collapses.
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

    def sentence(self) -> str:
        """The rule in words, for reports: what counts as a collapse."""
        found = []
        if self.threshold is not None:
            found.append(f"above {self.threshold:.10g} (and not so unedited)")
        if self.ratio is not None:
            found.append(f"above {self.ratio:.10g} times the unedited model's")
        return (
            f"collapsed: perplexity {', '.join([*found, 'or ' * bool(found) + 'no finite number'])}"
        )


DEFAULT_RULE = CollapseRule()
