"""Schedule: the works that run on each model, and how much of each."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import denominators, machine, memory, overhead, scaling, sequences, sweeps, works
from benchmarks.cases import Case, check_models, open_case
from benchmarks.choices import DEFAULT_MODELS, DEMO_MODEL, WORKS, Asked, is_demo
from benchmarks.results import Results
from editcollapse.runtime.devices import best_device
from editcollapse.runtime.settings import settings

_N_TEXTS = 50
_DEMO_EDITS, _OTHER_EDITS = 64, 16
_DEMO_TOKENS, _OTHER_TOKENS = 50_000, 20_000
_DEMO_OVERHEAD, _OTHER_OVERHEAD = 512, 64
_QUICK_EDITS, _QUICK_TOKENS, _QUICK_OVERHEAD = 4, 5_000, 16
_SEQUENCE_STEPS, _QUICK_STEPS = 100, 8


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """Options of one run; None leaves the choice to this module."""

    workspace: Path
    quick: bool = False
    only: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    repeats: int | None = None
    edits: int | None = None
    steps: int | None = None
    tokenizer: Path | None = None
    profile: bool = False

    @property
    def chosen_models(self) -> tuple[str, ...]:
        """The models to run on."""
        return self.models or ((DEMO_MODEL,) if self.quick else DEFAULT_MODELS)

    def size(self, model: str) -> works.Size:
        """Return how much one repeat does on a model."""
        demo = is_demo(model)
        if self.quick:
            n_ours, n_tokens, repeats = _QUICK_EDITS, _QUICK_TOKENS, 1
        else:
            n_ours = _DEMO_EDITS if demo else _OTHER_EDITS
            n_tokens, repeats = (_DEMO_TOKENS if demo else _OTHER_TOKENS), 5
        n_ours = self.edits or n_ours
        n_reference = min(4 if demo else 1, n_ours)
        return works.Size(self.repeats or repeats, n_reference, n_ours, n_tokens)

    def overhead_edits(self, model: str) -> int:
        """Return the edits of the overhead's study; none where it is not to run."""
        if not self._runs("overhead", model):
            return 0
        if self.edits is not None:
            return self.edits
        if self.quick:
            return _QUICK_OVERHEAD
        return _DEMO_OVERHEAD if is_demo(model) else _OTHER_OVERHEAD

    def sequence_steps(self, model: str) -> int:
        """Return the steps of the longest sequence; none where sequences are not to run."""
        if not self._runs("sequences", model):
            return 0
        return self.edits or (_QUICK_STEPS if self.quick else _SEQUENCE_STEPS)

    def _runs(self, work: str, model: str) -> bool:
        """Return whether a work runs that others than the demo model do only where it is named."""
        return is_demo(model) if self.only is None else work in self.only

    def asked(self, model: str) -> Asked:
        """Return what is prepared of one model and its data."""
        size = self.size(model)
        n_more = _N_TEXTS if self.quick else max(scaling.TEXTS)
        return Asked(
            workspace=self.workspace.resolve(),
            tokenizer=self.tokenizer,
            n_requests=max(size.n_ours, self.overhead_edits(model), self.sequence_steps(model)),
            n_texts=_N_TEXTS,
            n_more_texts=n_more,
            n_corpus_tokens=size.n_tokens,
            steps=self.steps,
        )


def run(order: Order, command: str) -> Results:
    """Run what is asked for; return the results.

    Raises:
        EditCollapseError: a model is unknown, or a tokenizer does not fit.
    """
    check_models(order.chosen_models)
    found = Results(machine.describe(best_device(settings().device)), command)
    for model in order.chosen_models:
        _say(f"{model}: preparing")
        case = open_case(model, order.asked(model))
        scaling.warm_up(case)
        for work in order.only or WORKS:
            _say(f"{model}: {work}")
            _measure(work, case, order, found)
        if order.profile:
            _say(f"{model}: profile")
            scaling.operators(case, order.size(model), found)
    return found


def _measure(work: str, case: Case, order: Order, found: Results) -> None:
    """Do one work on one model."""
    size = order.size(case.name)

    def scale() -> None:
        scaling.batches(case, size, found)
        scaling.texts(case, size, found)

    def lengthen() -> None:
        if n_steps := order.sequence_steps(case.name):
            sequences.sequences(case, size, n_steps, order.steps, found)

    def whole_flow() -> None:
        if n_edits := order.overhead_edits(case.name):
            overhead.measure(case, n_edits, size.repeats, found)

    does: dict[str, Callable[[], None]] = {
        "edits": lambda: works.edits(case, size, works.ONE_METHOD, found),
        "methods": lambda: works.edits(case, size, works.FOUR_METHODS, found),
        "perplexity": lambda: works.perplexity(case, size, found),
        "covariance": lambda: works.covariance(case, size, found),
        "denominators": lambda: denominators.denominators(case, size, found),
        "sweep": lambda: sweeps.sweep(case, size, found),
        "sequences": lengthen,
        "overhead": whole_flow,
        "scaling": scale,
        "memory": lambda: memory.peaks(case.name, order.asked(case.name), size, found),
    }
    does[work]()


def _say(text: str) -> None:
    """Tell on stderr what runs; stdout holds the tables."""
    print(text, file=sys.stderr, flush=True)
