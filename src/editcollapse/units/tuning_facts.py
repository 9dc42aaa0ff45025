"""The job before a tuning: which facts the unedited model knows, and which of them are held out."""

import logging
import random
from collections.abc import Iterator, Sequence

from editcollapse.data.requests import EditRequest
from editcollapse.evaluation.probes import ProbePlan, plan_probes
from editcollapse.evaluation.scores import Answer, answer_probes
from editcollapse.fingerprints import digest
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.models.loading import LoadedModel
from editcollapse.models.tokenization import UnusableTextError
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import Manifest
from editcollapse.study.tuning import (
    HELD_OUT,
    TUNING,
    UNKNOWN,
    AskedFact,
    FactsJob,
    enough_known,
    parted,
)
from editcollapse.units.prepare import Progress, load

logger = logging.getLogger(__name__)

_AT_ONCE = 64
"""Facts that are asked before it is seen whether they are enough."""


@float32_products()
def choose_facts(job: FactsJob, on_facts: Progress = None) -> Manifest:
    """Return rows that say what each fact is used for.

    First-token facts and others are asked in turn, in random order, until enough are known.

    Args:
        job: the facts, of which those that say what is true can be known.
        on_facts: called with facts asked and the most there can be.

    Raises:
        DatasetError: the model knows too few.
    """
    clock = job.clock("tuning facts", job.model, job.seed)
    loaded = load(job.model)
    hooked = HookedLayer(loaded, job.model.layer)
    asked: list[AskedFact] = []
    order = list(_in_turn(job, loaded))
    for start in range(0, len(order), _AT_ONCE):
        some = order[start : start + _AT_ONCE]
        asked += _answers(hooked, some)
        if on_facts is not None:
            on_facts(start + len(some), len(order))
        if enough_known(asked, job.n_facts):
            break
    rows = parted(asked, job.fact_set_id, job.model.model_id, job.n_facts, job.seed)
    n_of = {part: sum(row.part == part for row in rows) for part in (TUNING, HELD_OUT, UNKNOWN)}
    summary = (
        f"{job.model.spec.name} knows {len(rows) - n_of[UNKNOWN]} of {len(rows)} facts: "
        f"{n_of[TUNING]} to tune on, {n_of[HELD_OUT]} held out"
    )
    store = ArtifactStore(job.results)
    provenance = clock.row(summary, len(rows), str(loaded.device))
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("tuning_facts", rows),
            store.put_rows("provenance", [provenance]),
        ),
    )


def _in_turn(job: FactsJob, loaded: LoadedModel) -> Iterator[tuple[EditRequest, bool]]:
    """Yield facts, first-token ones and others in turn, and whether each is the former."""
    kinds: dict[bool, list[EditRequest]] = {True: [], False: []}
    for request in job.requests:
        if request.target_true is None:
            continue
        try:
            kinds[loaded.encoder.audit(request).is_first_token].append(request)
        except UnusableTextError as error:
            logger.warning("%s: %s", job.model.spec.name, error)
    for kind, own in kinds.items():
        random.Random(digest("facts", job.seed, kind)).shuffle(own)
    for place in range(max(map(len, kinds.values()))):
        for kind, own in kinds.items():
            if place < len(own):
                yield own[place], kind


def _answers(hooked: HookedLayer, facts: Sequence[tuple[EditRequest, bool]]) -> Iterator[AskedFact]:
    """Yield what the unedited model says to some facts."""
    encoder = hooked.loaded.encoder
    plans: list[ProbePlan] = []
    own: list[tuple[EditRequest, bool]] = []
    for request, is_first in facts:
        bare = EditRequest(request.subject, request.prompt, request.target_new, request.target_true)
        try:
            plan = plan_probes(encoder, ("{}",), bare, 0)
        except UnusableTextError as error:
            logger.warning("%s", error)
            continue
        if plan.skipped:
            logger.warning("%s", plan.skipped[0])
            continue
        plans.append(plan)
        own.append((request, is_first))
    if not plans:
        return
    size = hooked.loaded.size(hooked.layer)
    budget = tokens_per_forward(hooked.loaded.device, size, "answers")
    (answers,) = answer_probes(hooked, plans, [None], budget)
    for (request, is_first), said in zip(own, answers, strict=True):
        by_side: dict[str, Answer] = {answer.question.side: answer for answer in said}
        true, new = by_side["true"], by_side["new"]
        yield AskedFact(request, is_first, true.argmax == true.question.target, true.nll, new.nll)
