"""Edits on a device, v* to perplexity: the published procedure and ours, one method and four."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks import reference, reference_measures
from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.floor import Speeds, perplexity_floor, values_floor
from benchmarks.gpu.measuring import Once, once
from benchmarks.gpu.memory import largest_forward, peak_figures, say_peak
from benchmarks.gpu.reporting import Reporter
from editcollapse.catalog.methods import method_of
from editcollapse.covariance.second_moment import MomentSolver
from editcollapse.evaluation.perplexity import text_nll
from editcollapse.forward.rewrites import Rewrite
from editcollapse.rome.updates import RankOneUpdates, rank_one_updates
from editcollapse.rome.values import TargetValues, optimise_values

METHODS = ("rome", "c_rome", "p_rome", "v_relative")
COUNTERFACT = 21_919
"""Records of CounterFact."""
FIGURES = (
    ("one method, reference", "s/edit"),
    ("one method, ours", "s/edit"),
    ("one method, ratio", "x"),
    ("four methods, reference", "s/edit"),
    ("four methods, ours", "s/edit"),
    ("four methods, ratio", "x"),
    ("four methods, ours, of the floor", "share"),
    ("21,919 records, four methods, reference", "hours"),
    ("21,919 records, four methods, ours", "hours"),
    ("largest difference of updates", "relative"),
    ("largest difference of perplexities", "relative"),
    *peak_figures("values"),
    *peak_figures("evaluation"),
)
_ASSUMED_SHARE = 0.6
"""Of the floor's speed that ours is assumed to reach, to choose the size of the batch."""
_FEW_PASSES = 2
_SHARE_FOR_REFERENCE = 0.4
"""Of the time; less where it needs less, and few passes of most methods where it needs more."""
_SHARE_FOR_OURS = 0.9
"""Of what the reference leaves."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FirstEdit:
    """One method's update of the first edit, with the edited model's perplexity."""

    update: Tensor
    """Multiplied out, (D, K) float64 on the CPU."""
    perplexity: float
    """Mean over the texts, of the edited model."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Seconds an edit, v* to perplexity."""

    by_method: dict[str, float]
    """Where each method is run by itself; what methods share counts in ``shared``."""
    first: dict[str, FirstEdit]
    """By method."""
    note: str
    """How it was measured."""
    shared: float = 0.0

    def of(self, methods: Sequence[str]) -> float:
        """Return the seconds of one edit by some methods."""
        return self.shared + sum(self.by_method[name] for name in methods)


def measure(
    case: GpuCase, moment: Tensor | None, speeds: Speeds, clock: Clock, report: Reporter
) -> None:
    """Write what an edit costs on both sides, the reference's part first.

    Args:
        case: the model.
        moment: C, (K, K) float64 on the CPU; None for the identity.
        speeds: of the device.
        clock: of this piece.
        report: of the case.
    """
    theirs = report.attempt(
        [each for each in FIGURES if each[0] in _OF_REFERENCE],
        lambda: _reference(case, moment, clock.share(_SHARE_FOR_REFERENCE)),
        case.device,
    )
    ours = _ours(case, moment, speeds, clock.share(_SHARE_FOR_OURS), report)
    hours = COUNTERFACT / 3600
    for name, methods in (("one method", METHODS[:1]), ("four methods", METHODS)):
        mine = ours.of(methods)
        report.say(f"{name}, ours", "s/edit", mine, ours.note)
        if theirs is not None:
            report.say(f"{name}, reference", "s/edit", theirs.of(methods), theirs.note)
            report.say(f"{name}, ratio", "x", theirs.of(methods) / mine, theirs.note)
    report.say("21,919 records, four methods, ours", "hours", hours * ours.of(METHODS))
    if theirs is not None:
        report.say("21,919 records, four methods, reference", "hours", hours * theirs.of(METHODS))
        _agreement(theirs, ours, report)


def _agreement(theirs: Side, ours: Side, report: Reporter) -> None:
    """Write how far the two sides' results for the first edit are apart."""
    updates, perplexities = [], []
    for name, known in theirs.first.items():
        mine = ours.first[name]
        updates.append(float((mine.update - known.update).abs().max() / known.update.abs().max()))
        perplexities.append(abs(mine.perplexity - known.perplexity) / known.perplexity)
    note = f"{len(updates)} edits; half types round differently on the two sides"
    report.say("largest difference of updates", "relative", max(updates), note)
    report.say("largest difference of perplexities", "relative", max(perplexities), note)


def _reference(case: GpuCase, moment: Tensor | None, clock: Clock) -> Side:
    """Return the reference's seconds of one edit by each method.

    The first is run as published. Where there is no time for that, the others run few passes of v*,
    and the rest counts what the first one's passes took.
    """
    inverse: Tensor | None = None
    if moment is not None:
        # Inverted beforehand, as the public code keeps it.
        inverse = torch.linalg.inv(moment.to(case.device)).float()  # noqa: TID251  as published
    rewrite = case.rewrites[0]
    few = dataclasses.replace(case.values, steps=_FEW_PASSES)

    def perplexity(update: reference.Update) -> tuple[float, float]:
        nll: list[Tensor] = []
        with reference.edited(case.published, update):
            cost = once(
                lambda: nll.append(reference_measures.text_nll(case.published, case.texts.rows)),
                case.device,
            )
        return cost.seconds, float(nll[0].exp().mean())

    def edit(name: str, settings: object = case.values) -> tuple[float, reference.Update]:
        made: list[reference.Update] = []
        cost = once(
            lambda: made.append(
                reference.edit(case.published, rewrite, name, inverse, settings)  # type: ignore[arg-type]
            ),
            case.device,
        )
        return cost.seconds, made[0]

    edit(METHODS[0], few)  # the first calls set up libraries
    short_s, update = edit(METHODS[0], few)
    perplexity(update)
    seconds: dict[str, float] = {}
    first: dict[str, FirstEdit] = {}
    n_short, rest_s, whole_s = 0, 0.0, 0.0
    for name in METHODS:
        if first and not clock.fits(whole_s):
            n_short += 1
            edit_s, update = edit(name, few)
            seconds[name] = edit_s + rest_s + perplexity(update)[0]
            continue
        edit_s, update = edit(name)
        measure_s, mean = perplexity(update)
        seconds[name] = whole_s = edit_s + measure_s
        rest_s = max(0.0, edit_s - short_s)
        first[name] = FirstEdit(torch.outer(update.left, update.right).cpu().double(), mean)
    note = "one edit a method"
    if n_short:
        note += f", {n_short} of them from runs of {_FEW_PASSES} passes of {case.values.steps}"
    return Side(seconds, first, note)


_OF_REFERENCE = (
    "one method, reference",
    "one method, ratio",
    "four methods, reference",
    "four methods, ratio",
    "21,919 records, four methods, reference",
    "largest difference of updates",
    "largest difference of perplexities",
)


def _ours(
    case: GpuCase, moment: Tensor | None, speeds: Speeds, clock: Clock, report: Reporter
) -> Side:
    """Return our seconds an edit."""
    one_s = _floor_s(case, case.rewrites[:1], speeds)
    n_edits = min(len(case.rewrites), int(_ASSUMED_SHARE * clock.left / one_s))
    n_edits = 1 << (max(1, n_edits).bit_length() - 1)
    rewrites = case.rewrites[:n_edits]
    groups = case.groups(n_edits)
    solver = MomentSolver(moment)
    weight = case.loaded.weight(case.layer)
    values: list[TargetValues] = []
    updates: dict[str, list[RankOneUpdates]] = {}
    nll: dict[str, Tensor] = {}

    def optimise() -> None:
        values[:] = [
            optimise_values(case.hooked, [rewrites[b] for b in group], case.values)
            for group in groups
        ]

    def update(name: str) -> None:
        updates[name] = [
            rank_one_updates(each, method_of(name), solver, weight, case.values.clamp_factor)[0]
            for each in values
        ]

    def perplexity(name: str) -> None:
        nll[name] = torch.cat(
            [text_nll(case.hooked, case.texts, each, evaluation_budget) for each in updates[name]]
        )

    few = dataclasses.replace(case.values, steps=_FEW_PASSES)
    optimise_values(case.hooked, [rewrites[b] for b in groups[0]], few)
    optimised = once(optimise, case.device)
    say_peak(
        case,
        "values",
        max(sum(rewrites[b].pass_tokens for b in group) for group in groups),
        optimised.peak_bytes,
        report,
    )
    evaluation_budget = case.budget("evaluation")
    by_method: dict[str, float] = {}
    measured: list[Once] = []
    for name in METHODS:
        made = once(lambda: update(name), case.device)  # noqa: B023  called at once
        measured.append(once(lambda: perplexity(name), case.device))  # noqa: B023
        by_method[name] = (made.seconds + measured[-1].seconds) / n_edits
    n_updates = max(map(len, groups))
    tokens = largest_forward(case.texts, evaluation_budget, n_updates)
    say_peak(case, "evaluation", tokens, measured[-1].peak_bytes, report)
    # The first edit's place among the groups, which come one behind the other.
    index = [b for group in groups for b in group].index(0)
    in_group = next(number for number, group in enumerate(groups) if 0 in group)
    first = {
        name: FirstEdit(
            updates[name][in_group].matrix(groups[in_group].index(0)).cpu().double(),
            float(nll[name][index].exp().mean()),
        )
        for name in METHODS
    }
    note = f"a batch of {n_edits} edits in {len(groups)} groups"
    side = Side(by_method, first, note, optimised.seconds / n_edits)
    floor_s = _floor_s(case, rewrites, speeds, len(groups)) / n_edits
    report.say("four methods, ours, of the floor", "share", floor_s / side.of(METHODS), note)
    report.say("v* alone, ours", "s/edit", side.shared, note)
    return side


def _floor_s(
    case: GpuCase, rewrites: Sequence[Rewrite], speeds: Speeds, n_groups: int = 1
) -> float:
    """Return the least seconds of some edits by all methods, v* to perplexity."""
    passes = [case.values.steps] * len(rewrites)
    n_models = len(rewrites) * len(METHODS)
    return (
        values_floor(case.loaded, case.layer, rewrites, passes, n_groups, speeds).seconds
        + perplexity_floor(case.loaded, case.layer, case.texts.rows, n_models, speeds).seconds
    )
