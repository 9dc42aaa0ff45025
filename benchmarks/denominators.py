"""Denominators alone: keys say which edits will explode before any v* is optimised."""

import torch
from torch import Tensor

from benchmarks import ours, reference
from benchmarks.cases import Case
from benchmarks.results import Agreement, Comparison, Results
from benchmarks.works import ONE_METHOD, Size, distance, in_turn
from editcollapse.covariance.second_moment import MomentSolver

_WORK = "denominators"


def denominators(case: Case, size: Size, found: Results) -> None:
    """Compare k0 · u of both sides, and ours with the whole edits of both sides.

    C is inverted, and factored, beforehand.
    """
    solver = MomentSolver(case.store.tensors(case.moment)["moment"])
    theirs: dict[int, Tensor] = {}
    mine: list[Tensor] = []

    def some(repeat: int) -> range:
        first = repeat * size.n_reference
        return range(first, first + size.n_reference)

    def their_keys(repeat: int) -> int:
        for turn in some(repeat):
            index = turn % size.n_ours
            rewrite = ours.rewrite(case, case.inputs.requests[index])
            theirs[index] = reference.denominator(case.published, rewrite, case.inverse)
        return size.n_reference

    def our_keys(_repeat: int) -> int:
        bare, prefixed = ours.keys(case, case.inputs.requests[: size.n_ours])
        solved = solver.solve(prefixed)
        mine[:] = [(bare * solved).sum(dim=1) / solved.norm(dim=1)]
        return len(bare)

    def their_edits(repeat: int) -> int:
        for turn in some(repeat):
            rewrite = ours.rewrite(case, case.inputs.requests[turn % size.n_ours])
            reference.edit(case.published, rewrite, "rome", case.inverse, case.setup.values)
        return size.n_reference

    def our_edits(_repeat: int) -> int:
        return len(ours.edit(case, case.inputs.requests[: size.n_ours], ONE_METHOD)["rome"])

    def our_outcomes(_repeat: int) -> int:
        updates = ours.edit(case, case.inputs.requests[: size.n_ours], ONE_METHOD)["rome"]
        return len(ours.measure(case, updates, case.texts))

    def our_forecasts(_repeat: int) -> int:
        return ours.forecast(case, case.inputs.requests[: size.n_ours])

    read = in_turn(case, size.repeats, their_keys, our_keys)
    edited = in_turn(case, size.repeats, their_edits, our_edits)
    forecast = in_turn(case, size.repeats, our_outcomes, our_forecasts)
    unit = "subjects/s"
    found.comparisons += [
        Comparison(_WORK, case.name, unit, *read, "both read keys alone"),
        Comparison(
            _WORK, case.name, unit, edited[0], read[1], "the reference edits, ours reads keys alone"
        ),
        Comparison(
            _WORK, case.name, unit, edited[1], read[1], "the first figure is our own whole edits"
        ),
        Comparison(
            "forecast",
            case.name,
            "requests/s",
            *forecast,
            "the first figure is our own edits by one method and their perplexity; a forecast is "
            "of every method",
        ),
    ]
    far = distance(
        torch.stack([mine[0][index] for index in theirs]), torch.stack(list(theirs.values()))
    )
    found.agreements.append(Agreement(case.name, "denominators", far, len(theirs)))
