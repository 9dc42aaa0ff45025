"""The pieces of work on an accelerator, each timed with its peak memory and its floor."""

import dataclasses
import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks import reference, reference_measures
from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.floor import Floor, Speeds, covariance_floor, perplexity_floor, values_floor
from benchmarks.machine import timed
from editcollapse.devices import tokens_per_forward
from editcollapse.methods import method_of
from editcollapse.moments import MomentSolver, measure_moment
from editcollapse.perplexity import text_nll
from editcollapse.rewrites import pass_groups
from editcollapse.updates import RankOneUpdates, rank_one_updates
from editcollapse.values import optimise_values

METHODS = ("rome", "c_rome", "p_rome", "v_relative")


@dataclasses.dataclass(frozen=True, slots=True)
class Phase:
    """One piece of work of one side."""

    side: str
    work: str
    n_items: int
    """Tokens, or edits times methods."""
    seconds: float
    """Of the whole, the fastest of the repeats."""
    peak_mib: float | None
    """Of the device's memory, weights included; None on a CPU."""
    floor: Floor | None
    """The least that ours could take; None for the reference."""

    @property
    def each_s(self) -> float:
        """Seconds an item."""
        return self.seconds / self.n_items


def covariance(case: GpuCase, speeds: Speeds) -> tuple[Tensor, list[Phase]]:
    """Return C, (K, K) float64 on the CPU, and the time of both sides."""
    encode, length = case.loaded.encoder.encode, case.loaded.encoder.max_length
    found: list[Tensor] = []

    def theirs() -> None:
        rows = reference_measures.tokenised(encode, case.documents, length, case.n_tokens)
        reference_measures.second_moment(case.published, rows)

    def mine() -> None:
        moment = measure_moment(
            case.loaded, case.layer, case.documents, n_tokens=case.n_tokens, max_length=length
        )
        found[:] = [moment.matrix]

    floor = covariance_floor(case.loaded, case.layer, case.n_tokens, speeds)
    phases = [
        _phase(case, "reference", "covariance", case.n_tokens, theirs),
        _phase(case, "ours", "covariance", case.n_tokens, mine, floor),
    ]
    return found[0], phases


def our_edits(
    case: GpuCase, moment: Tensor, speeds: Speeds
) -> tuple[dict[str, RankOneUpdates], list[Phase]]:
    """Return every method's updates of the batch, and the time of editing and measuring them.

    C is factored beforehand, as one process of a study does once.
    """
    solver = MomentSolver(moment)
    weight = case.loaded.weight(case.layer)
    budget = tokens_per_forward(case.loaded.device, case.loaded.size(case.layer), "values")
    groups = pass_groups(case.rewrites, budget)
    n_passes = [case.values.steps] * len(case.rewrites)
    updates: dict[str, RankOneUpdates] = {}

    def edit() -> None:
        parts: dict[str, list[RankOneUpdates]] = {name: [] for name in METHODS}
        for group in groups:
            values = optimise_values(case.site, [case.rewrites[b] for b in group], case.values)
            for b, steps in zip(group, values.n_steps.tolist(), strict=True):
                n_passes[b] = min(steps + 1, case.values.steps)
            for name in METHODS:
                made, _ = rank_one_updates(
                    values, method_of(name), solver, weight, case.values.clamp_factor
                )
                parts[name].append(made)
        place = torch.tensor([b for group in groups for b in group]).argsort()
        updates.update({name: _joined(parts[name], place) for name in METHODS})

    def measure() -> None:
        for name in METHODS:
            text_nll(case.site, case.texts, updates[name])

    edit()  # the first run allocates, and tells the passes that each edit takes
    n_items = len(case.rewrites) * len(METHODS)
    floor = values_floor(case.loaded, case.layer, case.rewrites, n_passes, len(groups), speeds)
    edited = _phase(case, "ours", "edit", n_items, edit, floor)
    floor = perplexity_floor(case.loaded, case.layer, case.texts.rows, n_items, speeds)
    return updates, [edited, _phase(case, "ours", "perplexity", n_items, measure, floor)]


def reference_edits(
    case: GpuCase, inverse: Tensor, ours: dict[str, RankOneUpdates]
) -> tuple[float, list[Phase]]:
    """Return the largest relative difference of updates, and the time of a few edits."""
    some = case.rewrites[: case.order.reference_edits]
    updates: dict[tuple[int, str], reference.Update] = {}

    def edit() -> None:
        for index, rewrite in enumerate(some):
            for name in METHODS:
                updates[index, name] = reference.edit(
                    case.published, rewrite, name, inverse, case.values
                )

    def measure() -> None:
        for update in updates.values():
            with reference.edited(case.published, update):
                reference_measures.text_nll(case.published, case.texts.rows)

    n_items = len(some) * len(METHODS)
    phases = [
        _phase(case, "reference", "edit", n_items, edit),
        _phase(case, "reference", "perplexity", n_items, measure),
    ]
    far = []
    for (index, name), update in updates.items():
        theirs = torch.outer(update.left, update.right).cpu().double()
        mine = ours[name].matrix(index).cpu().double()
        far.append((mine - theirs).abs().max() / theirs.abs().max())
    return float(torch.stack(far).max()), phases


def _phase(
    case: GpuCase,
    side: str,
    work: str,
    n_items: int,
    run: Callable[[], None],
    floor: Floor | None = None,
) -> Phase:
    """Return the time and peak memory of one piece of work."""
    device = case.loaded.device
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = min(timed(run, device) for _ in range(case.order.repeats))
    peak = torch.cuda.max_memory_allocated(device) / (1 << 20) if on_gpu else None
    print(f"{side} {work}: {seconds / n_items:.4g} s each", file=sys.stderr, flush=True)
    return Phase(side, work, n_items, seconds, peak, floor)


def _joined(parts: Sequence[RankOneUpdates], place: Tensor) -> RankOneUpdates:
    """Return the parts as one batch in the order of the requests."""
    left = torch.cat([part.left for part in parts])[place]
    return RankOneUpdates(left, torch.cat([part.right for part in parts])[place])
