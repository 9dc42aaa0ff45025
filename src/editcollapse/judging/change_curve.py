"""P(collapse) by the change on text itself, of the measured edits that the package carries.

The forecast's own curve (``forecast.defaults``) is over a bound that is known before an edit is
made. Of an edited model the change itself is known. The edits that it rests on are single, of rank
one and at one down projection: of any other difference it says nothing.
"""

import dataclasses
import functools
from importlib.resources import files

import numpy as np
from pydantic import TypeAdapter

from editcollapse.forecast.calibration import LIKELY_FROM, SAFE_BELOW
from editcollapse.forecast.defaults import MARGIN
from editcollapse.forecast.measured import measured_data
from editcollapse.forecast.probability import N_DRAWS, CollapseCurve, Outcomes, fitted_curve

FILE = "change_curve.json"


@dataclasses.dataclass(frozen=True, slots=True)
class ChangeCurve:
    """What a change on text says about a single edit of rank one."""

    made: str
    """How the file was made, in words."""
    n_edits: int
    n_collapsed: int
    smallest_collapse: float
    """Change on text of the least that collapsed any measured model."""
    curve: CollapseCurve

    @property
    def at_risk_at(self) -> float:
        """Change from which on an edit is at risk; as ``forecast.defaults`` has it for bounds."""
        never_safe_from = min(
            self.smallest_collapse / MARGIN, self.curve.bound_of_high(LIKELY_FROM)
        )
        return min(never_safe_from, self.curve.bound_at(SAFE_BELOW))

    @property
    def collapse_at(self) -> float:
        """Change from which on a collapse is likelier than not."""
        return self.curve.bound_at(LIKELY_FROM)


ADAPTER = TypeAdapter(ChangeCurve)
"""Reads and checks the file."""


@functools.cache
def change_curve() -> ChangeCurve:
    """Return the curve that this version of the package carries."""
    return ADAPTER.validate_json(files(__package__).joinpath(FILE).read_bytes())


def fit_change_curve(*, n_draws: int = N_DRAWS) -> ChangeCurve:
    """Return the curve of the measured edits whose change on text is known.

    Args:
        n_draws: bootstrap samples; 0: without an interval.
    """
    models = measured_data().models
    names = sorted({each.model for each in models})
    known = [
        (change, lost, subject, names.index(each.model))
        for each in models
        for change, lost, subject in zip(
            each.edits.text_change, each.collapsed, each.edits.subject, strict=True
        )
        if change is not None
    ]
    changes, collapsed, subjects, numbers = zip(*known, strict=True)
    edits = Outcomes(
        np.array(changes, dtype=np.float64),
        np.array(collapsed, dtype=np.bool_),
        np.array(subjects, dtype=np.int64),
        np.array(numbers, dtype=np.int64),
    )
    return ChangeCurve(
        made="python -m scripts.change_curve",
        n_edits=len(known),
        n_collapsed=int(edits.collapsed.sum()),
        smallest_collapse=float(edits.bounds[edits.collapsed].min()),
        curve=fitted_curve(edits, n_draws=n_draws),
    )
