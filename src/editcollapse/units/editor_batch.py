"""The job of single edits by an editor beyond rank one: each edit of a batch by itself, measured.

Joint edits of one fact are changes of rank one in each layer, and z* of the unedited model serves
all editors that look for the same (``editors.optimise_targets``). Every row of a batch carries its
own change, of full rank too where memory allows. The weights stay as they are.
"""

import dataclasses
import logging
from collections.abc import Sequence

from torch import Tensor

from editcollapse.evaluation.perplexity import encode_texts, perplexities, text_nll
from editcollapse.evaluation.probes import plan_probes
from editcollapse.evaluation.scores import answer_probes, score_probes
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import Rewrite, build_rewrites
from editcollapse.forward.weight_changes import WeightChanges
from editcollapse.models.loading import LoadedModel
from editcollapse.rows.study import BaseMeasurementRow, EditRow, MeasurementRow
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import Manifest
from editcollapse.study.sequence_jobs import EditorBatchJob
from editcollapse.units.edit import position_row
from editcollapse.units.editor_edits import EditorEdits, edit_each, group_size, sizes_of
from editcollapse.units.editors import EditorOnModel, Targets, editor_on_model
from editcollapse.units.prepare import Progress, load

logger = logging.getLogger(__name__)


@float32_products()
def edit_and_measure(job: EditorBatchJob, on_step: Progress = None) -> Manifest:
    """Return rows of a batch's edits and measurements, and the edits' factors where they have any.

    Requests that this model cannot take are named in ``Manifest.unusable`` and leave no row.

    Args:
        job: the batch.
        on_step: called with optimisation steps done and the most there can be.

    Raises:
        MomentError: a matrix has no Cholesky factor.
        ArtifactError: a file of C is missing or has changed.
        DatasetError: no text of the set can be scored.
        DeviceMemoryError: one edit alone does not fit on the device.
    """
    inputs = job.inputs
    clock = job.clock("editor batch", inputs.model, job.seed)
    store = ArtifactStore(job.results)
    loaded = load(inputs.model)
    on_model = editor_on_model(store, loaded, inputs)
    rewrites, unusable = build_rewrites(loaded.encoder, inputs.templates, job.requests)
    for found in unusable:
        logger.warning("%s: %s", inputs.model.spec.name, found.reason)
    edits: list[EditRow] = []
    measured: list[MeasurementRow] = []
    base: list[BaseMeasurementRow] = []
    tensors: dict[str, Tensor] = {}
    targets = None if job.targets is None else Targets.stored(store, job.targets)
    size = group_size(loaded, inputs.editor)
    for first in range(0, len(rewrites), size):
        group = rewrites[first : first + size]

        def report(done: int, total: int, first: int = first, n: int = len(group)) -> None:
            if on_step is not None:
                on_step(first * total + n * done, len(rewrites) * total)

        own = None if targets is None else targets.rows(slice(first, first + size))
        made = edit_each(loaded, group, inputs.editor, on_model, own, inputs.mean_length, report)
        tensors |= _factors(made.changes)
        edits += _edit_rows(job, group, made, on_model)
        more, unedited = _measured(job, store, loaded, group, made.changes)
        measured += more
        base += unedited
    ref = store.put_tensors("updates", tensors) if tensors else None
    if ref is not None:
        edits = [
            dataclasses.replace(row, update_digest=ref.digest, update_row=index)
            for index, row in enumerate(edits)
        ]
    summary = (
        f"{len(edits)} single edits of {inputs.model.spec.name} by {inputs.editor.title}, batch "
        f"{job.batch_label}"
    )
    provenance = clock.row(summary, len(edits), str(loaded.device))
    positions = [position_row(inputs.model.model_id, rewrite) for rewrite in rewrites]
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("edits", edits),
            store.put_rows("positions", positions),
            store.put_rows("measurements", measured),
            store.put_rows("base_measurements", base),
            store.put_rows("provenance", [provenance]),
        ),
        tensors=ref,
        unusable=tuple((found.request.request_id, found.reason) for found in unusable),
    )


def _factors(changes: WeightChanges) -> dict[str, Tensor]:
    """Return the factors of changes of low rank by name; nothing of others."""
    found: dict[str, Tensor] = {}
    for change in changes.layers:
        if change.right is not None:
            found[f"left.{change.layer}"] = change.left
            found[f"right.{change.layer}"] = change.right
    return found


def _edit_rows(
    job: EditorBatchJob, rewrites: Sequence[Rewrite], made: EditorEdits, on_model: EditorOnModel
) -> list[EditRow]:
    """Return one row an edit; the norms are over all its layers together."""
    model, setup = job.inputs.model, job.inputs.editor
    last = job.inputs.moments[-1]
    sizes = sizes_of(made.changes, on_model.scales)
    return [
        EditRow(
            edit_id=job.edit_id(rewrite.request.request_id),
            model_id=model.model_id,
            request_id=rewrite.request.request_id,
            method=setup.name,
            layer=last.layer,
            layer_source=setup.source(model),
            covariance_id=last.covariance_id,
            template_set_id=job.inputs.template_set_id,
            settings_id=setup.settings_id(model),
            numerator_norm=None,
            denominator=None,
            rho=None,
            bare_key_norm=None,
            prefixed_key_norm=None,
            key_cosine=None,
            bare_key_dot=None,
            prefixed_key_dot=None,
            delta_norm=found.delta_norm,
            bare_value_norm=found.value_norm,
            update_norm=float(sizes.norm[b]),
            relative_update_norm=float(sizes.relative_norm[b]),
            update_norm_bound=None,
            n_steps=found.n_steps,
            loss=found.loss,
            loss_nll=found.nll,
            loss_kl=found.kl,
            loss_weight_decay=found.weight_decay,
            target_probability=found.target_probability,
            clamp_hit=found.clamp_hit,
            update_digest=None,
            update_row=None,
            text_change=float(sizes.text_change[b]),
        )
        for b, (rewrite, found) in enumerate(zip(rewrites, made.optimised, strict=True))
    ]


def _measured(
    job: EditorBatchJob,
    store: ArtifactStore,
    loaded: LoadedModel,
    rewrites: Sequence[Rewrite],
    changes: WeightChanges,
) -> tuple[list[MeasurementRow], list[BaseMeasurementRow]]:
    """Return what some edited models answer and write, and the unedited model's answers."""
    hooked = HookedLayer(loaded, changes.lowest)
    size = loaded.size(hooked.layer)
    budget = tokens_per_forward(loaded.device, size, "evaluation")
    texts = encode_texts(loaded.encoder, store.json(job.texts))
    plans = [
        plan_probes(loaded.encoder, job.inputs.templates, rewrite.request, job.seed)
        for rewrite in rewrites
    ]
    before, after = answer_probes(
        hooked, plans, [None, changes], tokens_per_forward(loaded.device, size, "answers")
    )
    found = perplexities(text_nll(hooked, texts, changes, budget))
    measured, base = [], []
    for plan, own, edited, perplexity in zip(plans, before, after, found, strict=True):
        measured.append(
            MeasurementRow(
                **dataclasses.asdict(score_probes(plan, edited, own)),
                edit_id=job.edit_id(plan.request_id),
                evaluation_id=job.evaluation_id,
                perplexity=perplexity.mean,
                perplexity_median=perplexity.median,
                perplexity_max=perplexity.max,
                nll_mean=perplexity.nll_mean,
                n_texts=len(texts.rows),
            )
        )
        base.append(
            BaseMeasurementRow(
                **dataclasses.asdict(score_probes(plan, own, own)),
                model_id=job.inputs.model.model_id,
                request_id=plan.request_id,
                evaluation_id=job.evaluation_id,
                template_set_id=job.inputs.template_set_id,
            )
        )
    return measured, base
