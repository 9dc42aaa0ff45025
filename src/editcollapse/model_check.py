"""Verify a family's row of the architecture table on loaded weights, and state a model's facts.

A row is a claim about another project's code. Each check computes one thing in two ways: as the
row says, and by the model's own forward.
"""

import dataclasses
from collections.abc import Callable

import torch

from editcollapse.model_facts import ModelFacts, facts_of
from editcollapse.model_probe import Probe
from editcollapse.models import LoadedModel

_TEXTS = (
    "The capital of France is Paris, and it lies on the Seine.",
    "One more thing: a river",
    "I",
)
_TOLERANCE = {
    torch.float64: 1e-5,
    torch.float32: 1e-3,
    torch.float16: 2e-2,
    torch.bfloat16: 1e-1,
}
"""Largest difference in units of the largest expected entry. A float64 model still casts to float32
inside some families; a 16-bit one rounds each block to 3 (bfloat16: 2) digits."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One claim about the model."""

    name: str
    passed: bool
    detail: str
    """One sentence: what was compared, and how far apart it was."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelCheck:
    """Facts of a model and what was verified on it."""

    facts: ModelFacts
    tolerance: float
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def lines(self) -> list[str]:
        """Return the facts and one line a check, for people."""
        verdict = (
            f"all {len(self.checks)} checks passed"
            if self.passed
            else f"{sum(not check.passed for check in self.checks)} of {len(self.checks)} checks "
            "failed: the row in src/editcollapse/architectures.py does not describe this model"
        )
        return [
            *self.facts.lines(),
            *(
                f"{'ok    ' if check.passed else 'FAILED'}  {check.name}: {check.detail}"
                for check in self.checks
            ),
            f"{verdict} (tolerance {self.tolerance:g} in {self.facts.dtype})",
        ]


@torch.no_grad()
def check_model(loaded: LoadedModel, layer: int | None = None) -> ModelCheck:
    """Return what holds of a model's row in the architecture table.

    Args:
        loaded: the model; its weights are the same, bit for bit, afterwards.
        layer: zero-based block to check; every block where left out.

    Raises:
        ModelError: the model has no such layer.
    """
    layers = range(loaded.widths.n_layers) if layer is None else (layer,)
    for index in layers:
        loaded.down_projection(index)  # refuses a layer that is not there
    rows = [row for row in map(loaded.encoder.sequence, _TEXTS) if row]
    rows = [row[: loaded.encoder.max_length] for row in rows]
    tolerance = _TOLERANCE[loaded.dtype]
    probe = Probe(loaded, rows, tuple(layers), tolerance)
    steps: dict[str, Callable[[], tuple[bool, str]]] = {
        "hooks": probe.hooks,
        "orientation": probe.orientation,
        "split run": probe.split_run,
        "rank-one update": probe.rank_one_update,
        "products": probe.products,
        "weights untouched": probe.weights_untouched,
        "right padding": probe.right_padding,
        "head": probe.head,
    }
    return ModelCheck(
        facts=facts_of(loaded, rows[0][0]),
        tolerance=tolerance,
        checks=tuple(_run(name, step) for name, step in steps.items()),
    )


def _run(name: str, step: Callable[[], tuple[bool, str]]) -> Check:
    """Return one check; a row that is wrong may make torch itself raise."""
    try:
        passed, detail = step()
    except (AttributeError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        return Check(name, passed=False, detail=f"{type(error).__name__}: {reason}.")
    return Check(name, passed, detail)
