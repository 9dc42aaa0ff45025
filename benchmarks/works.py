"""The works that both sides do in turn: edits, perplexity, covariance."""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks import ours, reference, reference_measures
from benchmarks.cases import Case
from benchmarks.machine import product_rate, timed
from benchmarks.results import Agreement, Comparison, Results, Spread, Use
from editcollapse.rome.updates import RankOneUpdates

ONE_METHOD = ("rome",)
FOUR_METHODS = ("rome", "c_rome", "p_rome", "v_relative")
_PRODUCT_TOKENS = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """Amount of work of each side in one repeat."""

    repeats: int
    n_reference: int
    """Edits of the reference; it edits one at a time, so few tell its rate."""
    n_ours: int
    """Edits of our batch."""
    n_tokens: int
    """Of the covariance."""


def in_turn(
    case: Case, repeats: int, theirs: Callable[[int], int], mine: Callable[[int], int]
) -> tuple[Spread, Spread]:
    """Return items a second of both sides, run in turn.

    Args:
        case: whose device to wait for.
        repeats: of each side.
        theirs: does one repeat of the reference and returns the number of items.
        mine: the same of ours.
    """
    rates: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats):
        for side, work in zip(rates, (theirs, mine), strict=True):
            done: list[int] = []
            seconds = timed(lambda: done.append(work(repeat)), case.loaded.device)  # noqa: B023
            side.append(done[0] / seconds)
    return Spread.of(rates[0]), Spread.of(rates[1])


def edits(case: Case, size: Size, methods: tuple[str, ...], found: Results) -> None:
    """Compare v*, update and perplexity of the texts, from requests to figures."""
    compared: dict[tuple[str, int], reference.Update] = {}
    nll: dict[tuple[str, int], Tensor] = {}
    made: list[dict[str, RankOneUpdates]] = []

    def theirs(repeat: int) -> int:
        for turn in range(size.n_reference):
            index = (repeat * size.n_reference + turn) % size.n_ours
            request = case.inputs.requests[index]
            for method in methods:
                rewrite = ours.rewrite(case, request)
                update = reference.edit(
                    case.published, rewrite, method, case.inverse, case.setup.values
                )
                with reference.edited(case.published, update):
                    nll[method, index] = reference_measures.text_nll(
                        case.published, case.texts.rows
                    )
                compared[method, index] = update
        return size.n_reference * len(methods)

    measured: dict[str, Tensor] = {}

    def mine(_repeat: int) -> int:
        updates = ours.edit(case, case.inputs.requests[: size.n_ours], methods)
        measured.update({name: ours.measure(case, updates[name], case.texts) for name in methods})
        made[:] = [updates]
        return size.n_ours * len(methods)

    one = len(methods) == 1
    rates = in_turn(case, size.repeats, theirs, mine)
    found.comparisons.append(
        Comparison(
            work="v*, update, perplexity" if one else "the same, four methods",
            model=case.name,
            unit="edits/s" if one else "edits x methods/s",
            reference=rates[0],
            ours=rates[1],
            note=f"reference {size.n_reference} edits a repeat, ours a batch of {size.n_ours}",
        )
    )
    far_updates = [
        distance(made[0][method].matrix(index), torch.outer(update.left, update.right))
        for (method, index), update in compared.items()
    ]
    far_figures = [
        distance(measured[method][index].exp().mean(), theirs_nll.exp().mean())
        for (method, index), theirs_nll in nll.items()
    ]
    named = "rome" if one else "four methods"
    found.agreements += [
        Agreement(case.name, f"updates, {named}", worst(far_updates), len(far_updates)),
        Agreement(case.name, f"perplexities, {named}", worst(far_figures), len(far_figures)),
    ]


def perplexity(case: Case, size: Size, found: Results) -> None:
    """Compare the perplexity of edited models alone, the same updates on both sides."""
    updates = ours.edit(case, case.inputs.requests[: size.n_ours], ONE_METHOD)["rome"]
    nll: dict[int, Tensor] = {}
    measured: list[Tensor] = []

    def theirs(repeat: int) -> int:
        for turn in range(size.n_reference):
            index = (repeat * size.n_reference + turn) % size.n_ours
            update = reference.Update(updates.left[index], updates.right[index])
            with reference.edited(case.published, update):
                nll[index] = reference_measures.text_nll(case.published, case.texts.rows)
        return size.n_reference

    def mine(_repeat: int) -> int:
        measured[:] = [ours.measure(case, updates, case.texts)]
        return len(updates)

    rates = in_turn(case, size.repeats, theirs, mine)
    note = f"{len(case.texts.rows)} texts, {case.texts.n_tokens} scored tokens"
    found.comparisons.append(Comparison("perplexity alone", case.name, "models/s", *rates, note))
    far = [distance(measured[0][index].exp(), one.exp()) for index, one in nll.items()]
    found.agreements.append(
        Agreement(case.name, "perplexities, same updates", worst(far), len(far))
    )


def covariance(case: Case, size: Size, found: Results) -> None:
    """Compare the second moment, from text to C, and how near it comes to plain products."""
    _covariance(case, size, case.inputs.documents, "covariance", found)
    if case.inputs.long_documents:
        _covariance(case, size, case.inputs.long_documents, "covariance, long documents", found)


def _covariance(
    case: Case, size: Size, documents: Sequence[str], name: str, found: Results
) -> None:
    matrices: list[Tensor] = [torch.empty(0), torch.empty(0)]

    def theirs(_repeat: int) -> int:
        rows = reference_measures.tokenised(
            case.loaded.encoder.encode, documents, case.loaded.encoder.max_length, size.n_tokens
        )
        matrices[0], n_tokens = reference_measures.second_moment(case.published, rows)
        return n_tokens

    def mine(_repeat: int) -> int:
        matrices[1] = ours.moment(case, documents, size.n_tokens)
        return size.n_tokens

    rates = in_turn(case, size.repeats, theirs, mine)
    note = f"{size.n_tokens} tokens, layer {case.layer}"
    found.comparisons.append(Comparison(name, case.name, "tokens/s", *rates, note))
    found.agreements.append(Agreement(case.name, name, distance(*matrices[::-1]), 1))
    widths = case.loaded.widths
    flops = linear_flops(case) + 2.0 * widths.d_key**2
    product = product_rate(_PRODUCT_TOKENS, widths.d_model, widths.d_key, case.loaded.device)
    for side, rate in zip(("reference", "ours"), rates, strict=True):
        reached = rate.median * flops
        found.uses.append(Use(case.name, side, name, flops, reached, product))


def linear_flops(case: Case) -> float:
    """Return the FLOPs a token of the linear layers below the edited projection, 2 a weight."""
    blocks = case.loaded.blocks[: case.layer + 1]
    weights = sum(each.numel() for each in blocks.parameters() if each.ndim > 1)
    return 2.0 * (weights - case.loaded.weight(case.layer).numel())


def distance(mine: Tensor, theirs: Tensor) -> float:
    """Return the largest difference in units of the largest entry of the reference.

    Equal infinities agree; anything else that is not finite gives ``nan`` or ``inf``.
    """
    theirs = theirs.detach().cpu().double()
    mine = mine.detach().cpu().double()
    far = ((mine - theirs).abs() / theirs.abs().max()).where(mine != theirs, 0.0)
    return float(far.max())


def worst(distances: list[float]) -> float:
    """Return the largest; ``nan`` where one of them is."""
    return float(torch.tensor(distances, dtype=torch.float64).max())
