"""The job that edits: one v* optimisation for a batch of requests, then every method's update."""

import dataclasses
import logging
from collections.abc import Sequence

import torch

from editcollapse.catalog.methods import distinct_rules, method_of
from editcollapse.catalog.presets import ValueSettings
from editcollapse.forecast.bounds import text_changes
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import Rewrite, build_rewrites, pass_groups
from editcollapse.rome.updates import RankOneUpdates, UpdateDiagnostics, rank_one_updates
from editcollapse.rome.value_loss import LossTerms
from editcollapse.rome.values import TargetValues, optimise_values
from editcollapse.rows.study import EditRow, PositionRow
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.oom import GroupLimit, oom_split
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import EditJob, Manifest
from editcollapse.units.geometry import kept_geometry
from editcollapse.units.prepare import Progress, load

logger = logging.getLogger(__name__)


@float32_products()
def edit_batch(job: EditJob, on_step: Progress = None) -> Manifest:
    """Return the updates of a batch as tensors, and rows of edits and positions.

    Requests that this model cannot take are named in ``Manifest.unusable`` and leave no row.

    Raises:
        MomentError: C has no Cholesky factor.
        ArtifactError: C's file is missing or has changed.
        DeviceMemoryError: one edit alone does not fit on the device.
    """
    clock = job.clock("edits", job.model)
    store = ArtifactStore(job.results)
    loaded = load(job.model)
    hooked = HookedLayer(loaded, job.model.layer)
    geometry = kept_geometry(store, loaded, job)
    rewrites, unusable = build_rewrites(loaded.encoder, job.templates, job.requests)
    for found in unusable:
        logger.warning("%s: %s", job.model.spec.name, found.reason)
    edits: list[EditRow] = []
    tensors: dict[str, torch.Tensor] = {}
    if rewrites:
        values = optimise_in_groups(hooked, rewrites, job.model.values, on_step)
        stored = values.delta.dtype
        tensors = {
            "delta": values.delta,
            "bare_key": values.bare_key,
            "prefixed_key": values.prefixed_key,
        }
        weight = loaded.weight(job.model.layer)
        for name, first in distinct_rules(job.methods).items():
            updates, diagnostics = rank_one_updates(
                values, method_of(name), geometry.solver, weight, job.model.values.clamp_factor
            )
            if name == first:
                tensors[f"left.{name}"] = updates.left.to(stored)
                tensors[f"right.{name}"] = updates.right.to(stored)
            changes = text_changes(diagnostics.update_norm, updates.right, geometry)
            edits.extend(_edit_rows(job, name, rewrites, values, diagnostics, changes))
    ref = store.put_tensors("updates", tensors)
    edits = [dataclasses.replace(row, update_digest=ref.digest) for row in edits]
    summary = (
        f"{len(edits)} edits of {job.model.spec.name}, layer {job.model.layer}, "
        f"batch {job.batch_label}"
    )
    provenance = clock.row(summary, len(edits), str(loaded.device))
    positions = [position_row(job.model.model_id, rewrite) for rewrite in rewrites]
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("edits", edits),
            store.put_rows("positions", positions),
            store.put_rows("provenance", [provenance]),
        ),
        tensors=ref,
        unusable=tuple((found.request.request_id, found.reason) for found in unusable),
    )


def stored_updates(store: ArtifactStore, ref: ArtifactRef) -> dict[str, RankOneUpdates]:
    """Return method name to updates of a batch; methods with equal rules are stored once.

    Raises:
        ArtifactError: the file is missing or has changed.
    """
    tensors = store.tensors(ref)
    names = [name.removeprefix("left.") for name in tensors if name.startswith("left.")]
    return {
        name: RankOneUpdates(tensors[f"left.{name}"], tensors[f"right.{name}"]) for name in names
    }


def optimise_in_groups(
    hooked: HookedLayer,
    rewrites: Sequence[Rewrite],
    settings: ValueSettings,
    on_step: Progress = None,
    predicted_passes: int | None = None,
) -> TargetValues:
    """Optimise v* of B edits in groups of like width that fit in memory.

    Args:
        hooked: the edited layer.
        rewrites: B edits with the same context templates.
        settings: of the optimisation.
        on_step: called with passes of v* done and the most there can be, all groups together.
        predicted_passes: as for ``optimise_values``.

    Returns:
        B edits in the order given.

    Raises:
        DeviceMemoryError: one edit alone does not fit on the device.
    """
    device = hooked.loaded.device
    budget = tokens_per_forward(device, hooked.loaded.size(hooked.layer), "values")
    groups = pass_groups(rewrites, budget)
    limit = GroupLimit(device, "v* of one edit")

    n_before, n_all = 0, settings.steps * len(groups)

    def report(done: int) -> None:
        if on_step is not None:
            on_step(done, n_all)

    def run(group: Sequence[int]) -> TargetValues:
        some = [rewrites[b] for b in group]
        return optimise_values(
            hooked, some, settings, lambda step, _: report(n_before + step), predicted_passes
        )

    def tokens(group: Sequence[int]) -> int:
        return sum(rewrites[b].pass_tokens for b in group)

    parts = []
    for group in groups:
        parts += [part for _, part in oom_split(group, run, limit, tokens)]
        n_before += settings.steps
        report(n_before)
    index = torch.tensor([b for group in groups for b in group]).argsort()
    return _joined(parts, index)


def _joined(parts: Sequence[TargetValues], index: torch.Tensor) -> TargetValues:
    """Return the parts as one batch, row i taken from place[i]."""

    def join(name: str) -> torch.Tensor:
        joined = torch.cat([getattr(part, name) for part in parts])
        return joined[index.to(joined.device)]

    def join_loss(name: str) -> torch.Tensor:
        return torch.cat([getattr(part.loss, name) for part in parts])[index]

    return TargetValues(
        prompt_keys=join("prompt_keys"),
        prompt_values=join("prompt_values"),
        delta=join("delta"),
        loss=LossTerms(
            nll=join_loss("nll"),
            kl=join_loss("kl"),
            weight_decay=join_loss("weight_decay"),
            target_probability=join_loss("target_probability"),
        ),
        n_steps=join("n_steps"),
        clamp_hit=join("clamp_hit"),
    )


def position_row(model_id: str, rewrite: Rewrite) -> PositionRow:
    """Return the position audit of a rewrite as a row."""
    audit = rewrite.audit
    return PositionRow(
        model_id=model_id,
        request_id=rewrite.request.request_id,
        subject_position=audit.subject_position,
        subject_first_index=audit.subject_first_index,
        subject_last_index=audit.subject_last_index,
        n_subject_tokens=audit.n_subject_tokens,
        n_prompt_tokens=audit.n_prompt_tokens,
        is_first_token=audit.is_first_token,
        is_sequence_start=audit.is_sequence_start,
        subject_last_token=audit.subject_last_token,
        n_target_new_tokens=len(rewrite.target),
        last_token_differs=audit.last_token_differs,
    )


def _edit_rows(
    job: EditJob,
    method: str,
    rewrites: Sequence[Rewrite],
    values: TargetValues,
    diagnostics: UpdateDiagnostics,
    changes: torch.Tensor,
) -> list[EditRow]:
    """Return one row an edit; the update's digest is filled in when its file is written."""
    return [
        EditRow(
            edit_id=job.edit_id(method, rewrite.request.request_id),
            model_id=job.model.model_id,
            request_id=rewrite.request.request_id,
            method=method,
            layer=job.model.layer,
            layer_source=job.model.layer_source,
            covariance_id=job.covariance_id,
            template_set_id=job.template_set_id,
            settings_id=job.model.settings_id,
            numerator_norm=float(diagnostics.numerator_norm[b]),
            denominator=float(diagnostics.denominator[b]),
            rho=float(diagnostics.rho[b]),
            bare_key_norm=float(diagnostics.bare_key_norm[b]),
            prefixed_key_norm=float(diagnostics.prefixed_key_norm[b]),
            key_cosine=float(diagnostics.key_cosine[b]),
            bare_key_dot=float(diagnostics.bare_key_dot[b]),
            prefixed_key_dot=float(diagnostics.prefixed_key_dot[b]),
            delta_norm=float(diagnostics.delta_norm[b]),
            bare_value_norm=float(diagnostics.bare_value_norm[b]),
            update_norm=float(diagnostics.update_norm[b]),
            relative_update_norm=float(diagnostics.relative_update_norm[b]),
            update_norm_bound=float(diagnostics.update_norm_bound[b]),
            n_steps=int(values.n_steps[b]),
            loss=float(values.loss.total[b]),
            loss_nll=float(values.loss.nll[b]),
            loss_kl=float(values.loss.kl[b]),
            loss_weight_decay=float(values.loss.weight_decay[b]),
            target_probability=float(values.loss.target_probability[b]),
            clamp_hit=bool(values.clamp_hit[b]),
            update_digest="",
            update_row=b,
            text_change=float(changes[b]),
        )
        for b, rewrite in enumerate(rewrites)
    ]
