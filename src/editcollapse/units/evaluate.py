"""The job that evaluates: a batch of independently edited models, every method at once."""

import dataclasses
import logging

from editcollapse.catalog.methods import distinct_rules
from editcollapse.evaluation.perplexity import Perplexity, encode_texts, perplexities, text_nll
from editcollapse.evaluation.probes import ProbePlan, plan_probes
from editcollapse.evaluation.scores import answer_probes, score_probes
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.rows.study import BaseMeasurementRow, MeasurementRow, ProbeScores
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import EvaluateJob, Manifest
from editcollapse.units.edit import stored_updates
from editcollapse.units.prepare import Progress, load

logger = logging.getLogger(__name__)


@float32_products()
def evaluate_batch(
    job: EvaluateJob, on_prompts: Progress = None, on_texts: Progress = None
) -> Manifest:
    """Return measurements of every edit of a batch, and the unedited model's on the same probes.

    Methods with the same rule write the same update; they are measured once and recorded under
    each name.

    Args:
        job: the batch.
        on_prompts: called with the probes' prompts that are answered, and all of them.
        on_texts: called with the perplexity texts that are done, under each update, and all.

    Raises:
        ArtifactError: the updates' file is missing or has changed.
        DatasetError: no text of the set can be scored.
    """
    clock = job.clock("evaluation", job.edits.model, job.seed)
    edits = job.edits
    store = ArtifactStore(job.results)
    loaded = load(edits.model)
    hooked = HookedLayer(loaded, edits.model.layer)
    size = loaded.size(hooked.layer)
    budget = tokens_per_forward(loaded.device, size, "evaluation")
    updates = stored_updates(store, job.updates)
    texts = encode_texts(loaded.encoder, store.json(job.texts))
    requests = [request for request in edits.requests if request.request_id not in job.skipped]
    plans = [
        plan_probes(loaded.encoder, edits.templates, request, job.seed) for request in requests
    ]
    for plan in plans:
        for reason in plan.skipped:
            logger.warning("%s: %s", edits.model.spec.name, reason)
    variants = list(updates.values())
    base_answers, *edited_answers = answer_probes(
        hooked,
        plans,
        [None, *variants],
        tokens_per_forward(loaded.device, size, "answers"),
        on_prompts,
    )
    measured: dict[str, list[_Measured]] = {}
    n_texts = len(texts.rows)
    for done, (name, answers) in enumerate(zip(updates, edited_answers, strict=True)):

        def report(n_done: int, _: int, before: int = done * n_texts) -> None:
            if on_texts is not None:
                on_texts(before + n_done, n_texts * len(updates))

        nll = text_nll(hooked, texts, updates[name], budget, report)
        scored = zip(plans, answers, base_answers, perplexities(nll), strict=True)
        measured[name] = [
            _Measured(score_probes(plan, edited, base), perplexity)
            for plan, edited, base, perplexity in scored
        ]
    rows = [
        _row(job, name, plan, found, n_texts)
        for name, first in distinct_rules(edits.methods).items()
        for plan, found in zip(plans, measured.get(first, []), strict=bool(plans))
    ]
    summary = (
        f"{len(rows)} edited models of {edits.model.spec.name}, layer {edits.model.layer}, "
        f"batch {edits.batch_label}"
    )
    provenance = clock.row(summary, len(rows), str(loaded.device))
    base = [
        BaseMeasurementRow(
            **dataclasses.asdict(score_probes(plan, answers, answers)),
            model_id=edits.model.model_id,
            request_id=plan.request_id,
            evaluation_id=job.evaluation_id,
            template_set_id=edits.template_set_id,
        )
        for plan, answers in zip(plans, base_answers, strict=True)
    ]
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("measurements", rows),
            store.put_rows("base_measurements", base),
            store.put_rows("provenance", [provenance]),
        ),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Measured:
    scores: ProbeScores
    perplexity: Perplexity


def _row(
    job: EvaluateJob, method: str, plan: ProbePlan, found: _Measured, n_texts: int
) -> MeasurementRow:
    return MeasurementRow(
        **dataclasses.asdict(found.scores),
        edit_id=job.edits.edit_id(method, plan.request_id),
        evaluation_id=job.evaluation_id,
        perplexity=found.perplexity.mean,
        perplexity_median=found.perplexity.median,
        perplexity_max=found.perplexity.max,
        nll_mean=found.perplexity.nll_mean,
        n_texts=n_texts,
    )
