"""Results of a benchmark run as plain data; ``report`` writes them as tables and JSON."""

import dataclasses
import statistics
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Spread:
    """Median, lowest and highest of some repeats."""

    median: float
    lowest: float
    highest: float
    n_repeats: int

    @classmethod
    def of(cls, found: Sequence[float]) -> "Spread":
        """Return the spread of measured values."""
        return cls(statistics.median(found), min(found), max(found), len(found))


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """One piece of work done by both sides in turn, as rates: more is faster."""

    work: str
    model: str
    unit: str
    reference: Spread
    ours: Spread
    note: str

    @property
    def ratio(self) -> float:
        """Our median over the reference's."""
        return self.ours.median / self.reference.median


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """Distance of our results from the reference's: a check, not a timing."""

    model: str
    quantity: str
    largest: float
    """Largest relative difference."""
    n_compared: int


@dataclasses.dataclass(frozen=True, slots=True)
class Scaled:
    """Seconds an edit takes as one size grows."""

    model: str
    varied: str
    size: int
    reference_s: Spread | None
    """None where the reference knows no such size."""
    ours_s: Spread


@dataclasses.dataclass(frozen=True, slots=True)
class Peak:
    """Memory of one side in a process of its own, MiB."""

    model: str
    side: str
    n_edits: int
    opened_mib: float
    """Resident with the model loaded and all prepared."""
    peak_mib: float
    """The resident set's high-water mark."""


@dataclasses.dataclass(frozen=True, slots=True)
class Use:
    """Share of the machine's speed in matrix products that a piece of work reaches."""

    model: str
    side: str
    work: str
    flops_per_item: float
    reached: float
    """FLOP/s."""
    product: float
    """FLOP/s of a plain float32 matrix product of like shape in the same run."""


@dataclasses.dataclass(frozen=True, slots=True)
class Operator:
    """One of torch's operators in a profile of our batch."""

    model: str
    name: str
    calls: int
    self_s: float
    share: float
    """Of all operators' time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Overhead:
    """The whole flow beside the same units called one after the other, seconds."""

    model: str
    n_edits: int
    batch_size: int
    flow_s: Spread
    units_s: Spread
    note: str

    @property
    def share(self) -> float:
        """What the flow takes on top, in units of the numerics."""
        return self.flow_s.median / self.units_s.median - 1


@dataclasses.dataclass(frozen=True, slots=True)
class SequenceCost:
    """What some steps of a sequence take, reading and writing its state included."""

    model: str
    editor: str
    first_step: int
    last_step: int
    step_s: Spread
    """Seconds a step."""
    passes: float
    """Of z*, a step."""
    exponent: Spread | None
    """b of (total seconds) ~ (steps)ᵇ over all chunks, where the steps are the whole sequence."""


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """The machine of the measurements."""

    cpu: str
    cores: int
    threads: int
    device: str
    python: str
    torch: str
    transformers: str
    product_gflops: float
    """GFLOP/s of a float32 matrix product of 2048 x 2048."""


@dataclasses.dataclass(slots=True)
class Results:
    """All that one run found; grows as works end."""

    machine: Machine
    command: str
    comparisons: list[Comparison] = dataclasses.field(default_factory=list)
    agreements: list[Agreement] = dataclasses.field(default_factory=list)
    scaled: list[Scaled] = dataclasses.field(default_factory=list)
    peaks: list[Peak] = dataclasses.field(default_factory=list)
    uses: list[Use] = dataclasses.field(default_factory=list)
    operators: list[Operator] = dataclasses.field(default_factory=list)
    sequence_costs: list[SequenceCost] = dataclasses.field(default_factory=list)
    overheads: list[Overhead] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
