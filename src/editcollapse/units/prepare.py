"""Jobs that come before the edits: context templates and the unedited model."""

import logging
from collections.abc import Callable

from editcollapse.data.requests import SLOT
from editcollapse.evaluation.perplexity import encode_texts, perplexities, text_nll
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.models.loading import LoadedModel, resident_model
from editcollapse.rome.templates import TemplateSet, generate_templates
from editcollapse.rome.updates import no_update
from editcollapse.rows.study import BasePerplexityRow, ModelRow, TemplateRow
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.settings import settings
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import (
    Manifest,
    ModelSetup,
    TemplatesJob,
    UneditedJob,
    template_set_id_of,
)

logger = logging.getLogger(__name__)


Progress = Callable[[int, int], None] | None
"""Called with what is done and all there is to do."""


def load(setup: ModelSetup) -> LoadedModel:
    """Return the job's model, resident in this process.

    Raises:
        ModelError: it cannot be loaded, or is no longer the one that the study was planned with.
    """
    return resident_model(setup.spec, setup.model_id, settings().device)


def prepare_templates(job: TemplatesJob) -> Manifest:
    """Return the context templates (``values``), and rows of the templates and the model."""
    clock = job.clock("templates", job.model, job.seed)
    loaded = load(job.model)
    if job.given is None:
        drawn = generate_templates(loaded, job.kind, job.lengths, job.seed)
    else:
        drawn = TemplateSet(job.given, "file", None)
    rows = [
        TemplateRow(
            template_set_id=template_set_id_of(job.model.model_id, drawn.templates),
            template_index=index,
            template=template,
            token_ids=list(loaded.encoder.encode(template.split(SLOT)[0])),
            kind=drawn.kind,
            seed=drawn.seed,
        )
        for index, template in enumerate(drawn.templates)
    ]
    store = ArtifactStore(job.results)
    summary = f"{len(rows)} context templates for {job.model.spec.name}"
    provenance = clock.row(summary, len(rows), str(loaded.device))
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("templates", rows),
            store.put_rows("models", [_model_row(job.model, loaded)]),
            store.put_rows("provenance", [provenance]),
        ),
        values=drawn.templates,
    )


def measure_unedited(job: UneditedJob, on_texts: Progress = None) -> Manifest:
    """Return the unedited model's perplexity on the text set as a row.

    Raises:
        DatasetError: no text can be scored.
    """
    clock = job.clock("unedited", job.model)
    store = ArtifactStore(job.results)
    loaded = load(job.model)
    texts = encode_texts(loaded.encoder, store.json(job.texts))
    hooked = HookedLayer(loaded, job.model.layer)
    budget = tokens_per_forward(loaded.device, loaded.size(hooked.layer), "answers")
    nll = text_nll(hooked, texts, no_update(loaded.widths), budget, on_texts)
    (found,) = perplexities(nll)
    row = BasePerplexityRow(
        model_id=job.model.model_id,
        evaluation_id=job.evaluation_id,
        perplexity=found.mean,
        perplexity_median=found.median,
        perplexity_max=found.max,
        nll_mean=found.nll_mean,
        n_texts=len(texts.rows),
        n_tokens=texts.n_tokens,
    )
    for rejection in texts.rejections:
        logger.warning("%s: %s", job.model.spec.name, rejection.reason)
    summary = f"unedited {job.model.spec.name}: perplexity {found.mean:.4g}"
    provenance = clock.row(summary, len(texts.rows), str(loaded.device))
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("base_perplexities", [row]),
            store.put_rows("provenance", [provenance]),
        ),
    )


def _model_row(setup: ModelSetup, loaded: LoadedModel) -> ModelRow:
    digests = loaded.digests
    return ModelRow(
        model_id=setup.model_id,
        source=loaded.source,
        family=loaded.architecture.family,
        fingerprint=digests.fingerprint,
        tokenizer_digest=digests.tokenizer_digest,
        dtype=setup.spec.dtype,
        start_token=loaded.encoder.start_token,
        n_layers=loaded.widths.n_layers,
        d_model=loaded.widths.d_model,
        d_key=loaded.widths.d_key,
        n_parameters=loaded.n_parameters,
        n_vocabulary=loaded.widths.n_vocabulary,
        quantization=loaded.quantization,
    )
