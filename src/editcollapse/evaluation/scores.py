"""Answers of unedited and independently edited models to probes, and their scores."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

import torch
from torch import Tensor

from editcollapse.evaluation.perplexity import states_per_head
from editcollapse.evaluation.probes import ProbeKind, ProbePlan, Question, Side
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.models.loading import widened
from editcollapse.models.tokenization import pad_right
from editcollapse.rome.edited_model import EditedRows, Updates
from editcollapse.rows.study import ProbeScores
from editcollapse.runtime.oom import GroupLimit, oom_split


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """One model's answer to one question."""

    question: Question
    nll: float
    """Mean over the target's tokens of -log p, nats."""
    argmax: tuple[int, ...]
    """The most likely token at each of the target's positions."""

    @property
    def accuracy(self) -> float:
        """Fraction of the target's tokens that are the most likely ones."""
        pairs = zip(self.argmax, self.question.target, strict=True)
        return fmean(best == token for best, token in pairs)


def answer_probes(
    hooked: HookedLayer,
    plans: Sequence[ProbePlan],
    variants: Sequence[Updates | None],
    tokens_per_forward: int = 4096,
    on_rows: Callable[[int, int], None] | None = None,
) -> list[list[list[Answer]]]:
    """Return every variant's answers to every request's questions.

    Rows of all requests are sorted by length; the blocks up to the edited one run once for each.

    Args:
        hooked: the edited layer.
        plans: B requests' questions.
        variants: for each, B updates, one a request; None is the unedited model.
        tokens_per_forward: padded tokens in one forward at most.
        on_rows: called with rows done and all rows.

    Returns:
        ``[variant][request][question]``.
    """
    answers: list[list[list[Answer | None]]] = [
        [[None] * len(plan.questions) for plan in plans] for _ in variants
    ]
    by_row: dict[tuple[int, int], list[int]] = {}
    for b, plan in enumerate(plans):
        for q, question in enumerate(plan.questions):
            by_row.setdefault((b, question.row), []).append(q)
    order = sorted(by_row, key=lambda key: len(plans[key[0]].rows[key[1]]))
    limit = GroupLimit(hooked.loaded.device, "answers of one prompt")

    @torch.inference_mode()
    def run(chunk: Sequence[tuple[int, int]]) -> list[list[Answer]]:
        ids = pad_right([plans[b].rows[row] for b, row in chunk], hooked.loaded.device)
        rows = EditedRows(hooked, hooked.read(ids))
        owner = torch.tensor([b for b, _ in chunk], device=ids.device)
        asked = _asked(chunk, by_row)
        return [
            _read(
                hooked,
                rows.unedited() if updates is None else rows.under_own(updates, owner),
                plans,
                asked,
            )
            for updates in variants
        ]

    def tokens(chunk: Sequence[tuple[int, int]]) -> int:
        return len(chunk) * max(len(plans[b].rows[row]) for b, row in chunk)

    done = 0
    for whole in _chunks(order, plans, tokens_per_forward):
        for chunk, found in oom_split(whole, run, limit, tokens):
            asked = _asked(chunk, by_row)
            for v, read in enumerate(found):
                for (_, b, q), answer in zip(asked, read, strict=True):
                    answers[v][b][q] = answer
            done += len(chunk)
            if on_rows is not None:
                on_rows(done, len(order))
    return [[[a for a in row if a is not None] for row in variant] for variant in answers]


def _asked(
    chunk: Sequence[tuple[int, int]], by_row: dict[tuple[int, int], list[int]]
) -> list[tuple[int, int, int]]:
    """Return the chunk's row, the request and the question of all that is asked of a chunk."""
    return [(n, b, q) for n, (b, row) in enumerate(chunk) for q in by_row[b, row]]


def _chunks(
    order: Sequence[tuple[int, int]], plans: Sequence[ProbePlan], budget: int
) -> Iterator[list[tuple[int, int]]]:
    """Yield (request, row) pairs, shortest rows first, bounded in padded tokens."""
    chunk: list[tuple[int, int]] = []
    for key in order:
        if chunk and (len(chunk) + 1) * len(plans[key[0]].rows[key[1]]) > budget:
            yield chunk
            chunk = []
        chunk.append(key)
    if chunk:
        yield chunk


@torch.inference_mode()
def _read(
    hooked: HookedLayer,
    hidden: Tensor,
    plans: Sequence[ProbePlan],
    asked: list[tuple[int, int, int]],
) -> list[Answer]:
    """Return the answers to the questions asked of a chunk's rows."""
    questions = [plans[b].questions[q] for _, b, q in asked]
    row, position, label = [], [], []
    for (n, _, _), question in zip(asked, questions, strict=True):
        for offset, token in enumerate(question.target):
            row.append(n)
            position.append(question.first_position + offset)
            label.append(token)
    states = hidden[torch.tensor(row), torch.tensor(position)]
    size = states_per_head(hooked.loaded)
    nll, best = [], []
    for some, goal in zip(
        torch.split(states, size), torch.split(torch.tensor(label), size), strict=True
    ):
        logits = widened(hooked.loaded.logits(some))
        best.extend(logits.argmax(dim=-1).tolist())
        log_probs = torch.log_softmax(logits, dim=-1)
        nll.extend((-log_probs.gather(1, goal.to(logits.device)[:, None]))[:, 0].tolist())
        del logits, log_probs  # not kept while the next are made
    answers, start = [], 0
    for question in questions:
        end = start + len(question.target)
        answers.append(Answer(question, fmean(nll[start:end]), tuple(best[start:end])))
        start = end
    return answers


def score_probes(
    plan: ProbePlan, answers: Sequence[Answer], unedited: Sequence[Answer]
) -> ProbeScores:
    """Return one model's scores on one request.

    Args:
        plan: the request's questions.
        answers: the model's, in the plan's order.
        unedited: the unedited model's, in the same order; locality compares with them.

    Source: algorithm definitions of kmeng01 eval_utils_counterfact and summarize (scores,
    magnitudes; neighborhood reversed) and EasyEdit evaluate_utils (token fractions).
    """
    by = {(a.question.kind, a.question.prompt_index, a.question.side): a for a in answers}
    new = by["rewrite", 0, "new"]
    true = by.get(("rewrite", 0, "true"))
    prefixed = {
        a.question.prompt_index: a.accuracy for a in answers if a.question.kind == "prefixed"
    }
    unchanged = [
        fmean(now == before for now, before in zip(a.argmax, b.argmax, strict=True))
        for a, b in zip(answers, unedited, strict=True)
        if a.question.kind == "neighborhood" and a.question.side == "true"
    ]
    paraphrase = [
        a.accuracy for a in answers if a.question.kind == "paraphrase" and a.question.side == "new"
    ]
    portability = [a.accuracy for a in answers if a.question.kind == "portability"]
    efficacy = _pairs(by, "rewrite", better="new")
    generalization = _pairs(by, "paraphrase", better="new")
    neighborhood = _pairs(by, "neighborhood", better="true")
    drawn = None if plan.prefix_index is None else prefixed.get(plan.prefix_index)
    return ProbeScores(
        efficacy=new.accuracy,
        efficacy_one_prefix=drawn,
        efficacy_prefix_mean=fmean(prefixed.values()) if prefixed else None,
        efficacy_prefix_min=min(prefixed.values(), default=None),
        efficacy_prefix_max=max(prefixed.values(), default=None),
        generalization=fmean(paraphrase) if paraphrase else None,
        locality=fmean(unchanged) if unchanged else None,
        efficacy_score=efficacy.score,
        efficacy_magnitude=efficacy.magnitude,
        paraphrase_score=generalization.score,
        paraphrase_magnitude=generalization.magnitude,
        neighborhood_score=neighborhood.score,
        neighborhood_magnitude=neighborhood.magnitude,
        target_new_nll=new.nll,
        target_true_nll=None if true is None else true.nll,
        prefix_index=plan.prefix_index,
        portability=fmean(portability) if portability else None,
        n_portability_prompts=len(portability),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _PairScore:
    score: float | None
    magnitude: float | None


def _pairs(
    by: dict[tuple[ProbeKind, int, Side], Answer], kind: ProbeKind, better: Side
) -> _PairScore:
    """Return success and magnitude of one kind of prompt, the better side against the other."""
    other: Side = "true" if better == "new" else "new"
    success, difference = [], []
    for (found, index, side), answer in by.items():
        against = by.get((kind, index, other))
        if found != kind or side != better or against is None:
            continue
        success.append(answer.nll < against.nll)
        difference.append(math.exp(-answer.nll) - math.exp(-against.nll))
    if not success:
        return _PairScore(None, None)
    return _PairScore(fmean(success), fmean(difference))
