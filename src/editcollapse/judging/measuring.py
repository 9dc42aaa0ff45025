"""What a model says on a text set and to the probes of requests, its weights as they are."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from editcollapse.data.requests import SLOT, EditRequest
from editcollapse.evaluation.perplexity import encode_texts, perplexities, text_nll
from editcollapse.evaluation.probes import ProbePlan, plan_probes
from editcollapse.evaluation.scores import Answer, answer_probes, score_probes
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.judging.findings import MeasuredTexts, RequestScores
from editcollapse.models.loading import LoadedModel
from editcollapse.models.tokenization import Encoder, UnusableTextError
from editcollapse.rome.updates import no_update
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.environment import reporter
from editcollapse.runtime.precision import float32_products


@dataclasses.dataclass(frozen=True, slots=True)
class Probes:
    """Requests that a model can be asked for, in tokens."""

    requests: tuple[EditRequest, ...]
    plans: tuple[ProbePlan, ...]
    unusable: tuple[str, ...]
    """A sentence for each request that it cannot."""


def probes_of(encoder: Encoder, requests: Sequence[EditRequest]) -> Probes:
    """Return the questions to some requests, behind no text.

    Args:
        encoder: the tokenizer of both models.
        requests: the facts.
    """
    usable, plans, unusable = [], [], []
    for request in requests:
        try:
            plans.append(plan_probes(encoder, (SLOT,), request, 0))
        except UnusableTextError as error:
            unusable.append(f"{request.filled_prompt[:60]!r}: {error}")
        else:
            usable.append(request)
    return Probes(tuple(usable), tuple(plans), tuple(unusable))


@float32_products()
def perplexity_on(loaded: LoadedModel, texts: Sequence[str]) -> tuple[MeasuredTexts, int]:
    """Return a model's perplexity on texts, and how many of them can be scored.

    Raises:
        DatasetError: none can.
    """
    encoded = encode_texts(loaded.encoder, texts)
    hooked = HookedLayer(loaded, 0)
    budget = tokens_per_forward(loaded.device, loaded.size(0), "answers")
    report = reporter(f"{loaded.name}: perplexity", "text")
    nll = text_nll(hooked, encoded, no_update(loaded.widths), budget, report)
    (found,) = perplexities(nll)
    figures = MeasuredTexts(found.mean, found.median, found.nll_mean)
    return figures, len(encoded.rows)


@float32_products()
def answers_to(loaded: LoadedModel, probes: Probes) -> list[list[Answer]]:
    """Return a model's answers to the questions to each request."""
    if not probes.plans:
        return []
    budget = tokens_per_forward(loaded.device, loaded.size(0), "answers")
    report = reporter(f"{loaded.name}: probes", "prompt")
    (found,) = answer_probes(HookedLayer(loaded, 0), probes.plans, [None], budget, report)
    return found


def scored(
    probes: Probes, before: Sequence[Sequence[Answer]], after: Sequence[Sequence[Answer]]
) -> tuple[RequestScores, ...]:
    """Return both models' scores, request by request; locality compares with the unedited model."""
    found = []
    for request, plan, unedited, edited in zip(
        probes.requests, probes.plans, before, after, strict=True
    ):
        found.append(_scores(request, plan, "before", unedited, unedited))
        found.append(_scores(request, plan, "after", edited, unedited))
    return tuple(found)


def _scores(
    request: EditRequest,
    plan: ProbePlan,
    side: Literal["before", "after"],
    answers: Sequence[Answer],
    unedited: Sequence[Answer],
) -> RequestScores:
    scores = score_probes(plan, answers, unedited)
    return RequestScores(
        request_id=request.request_id,
        subject=request.subject,
        target_new=request.target_new,
        side=side,
        efficacy=scores.efficacy,
        generalization=scores.generalization,
        locality=scores.locality,
        efficacy_score=scores.efficacy_score,
        paraphrase_score=scores.paraphrase_score,
        neighborhood_score=scores.neighborhood_score,
        target_new_nll=scores.target_new_nll,
    )
