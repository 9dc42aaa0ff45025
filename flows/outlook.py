"""What a study would run, what is cached, and how much memory it takes; touches no GPU."""

import dataclasses
import json
from pathlib import Path

from editcollapse.artifacts import ArtifactStore
from editcollapse.orders import Manifest, Order
from editcollapse.planning import ModelPlan, StudyPlan
from editcollapse.runtime import tokens_per_forward

RECORDS = "records"
"""Folder below the results folder where Prefect keeps what each task returned."""
_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_MOMENT_COPIES = 3
"""C, the damped matrix, and its Cholesky factor, in float64."""


@dataclasses.dataclass(frozen=True, slots=True)
class UnitCount:
    """Units of one kind: how many there are and how many are cached."""

    kind: str
    n_units: int
    n_cached: int


@dataclasses.dataclass(frozen=True, slots=True)
class ModelOutlook:
    """What one model of a study asks for; memory in bytes, estimated from sizes alone."""

    plan: ModelPlan
    units: tuple[UnitCount, ...]
    weight_bytes: int
    moment_bytes: int
    activation_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Estimate of what the model's tasks need together."""
        return self.weight_bytes + self.moment_bytes + self.activation_bytes


def model_outlook(plan: StudyPlan, model: ModelPlan) -> ModelOutlook:
    """Return which units of a model are cached, and an estimate of its memory."""
    cached = _CachedManifests(plan.results)
    templates, moment = cached.of(model.templates), cached.of(model.moment)
    n_edits = n_evaluations = 0
    if templates is not None and moment is not None:
        for order in plan.edit_orders(model, templates, moment):
            edits = cached.of(order)
            if edits is not None:
                n_edits += 1
                n_evaluations += cached.of(plan.evaluate_order(order, edits)) is not None
    unedited = cached.of(plan.unedited_order(model))
    units = (
        UnitCount("context templates", 1, int(templates is not None)),
        UnitCount("covariance", 1, int(moment is not None)),
        UnitCount("unedited model", 1, int(unedited is not None)),
        UnitCount("edit batches", plan.n_batches, n_edits),
        UnitCount("evaluation batches", plan.n_batches, n_evaluations),
    )
    widths = model.files.widths
    with_moment = plan.study.covariance.kind != "identity"
    return ModelOutlook(
        plan=model,
        units=units,
        weight_bytes=_loaded_bytes(model),
        moment_bytes=_MOMENT_COPIES * 8 * widths.d_key**2 * int(with_moment),
        activation_bytes=_activation_bytes(model),
    )


def _loaded_bytes(model: ModelPlan) -> int:
    """Return the size of the weights in the type that they are loaded in."""
    on_disk = str(model.files.config.get("dtype") or model.files.config.get("torch_dtype") or "")
    stored = _BYTES.get(on_disk, _BYTES["float32"])
    return model.files.weight_bytes * _BYTES[model.order.spec.dtype] // stored


def _activation_bytes(model: ModelPlan) -> int:
    """Return an estimate of what the backward pass of v* keeps.

    A block keeps about sixteen D-wide and four K-wide values a token; the logits of the positions
    that the loss reads are small beside them.
    """
    widths, spec = model.files.widths, model.order.spec
    above = widths.n_layers - model.order.layer
    per_token = above * (16 * widths.d_model + 4 * widths.d_key) * _BYTES[spec.dtype]
    return per_token * tokens_per_forward("cpu" if widths.d_model < 1024 else "cuda")  # noqa: PLR2004


class _CachedManifests:
    """The records that finished tasks have left, read without Prefect."""

    def __init__(self, results: Path) -> None:
        self._records = results / RECORDS
        self._store = ArtifactStore(results)

    def of(self, order: Order) -> Manifest | None:
        """Return what a unit returned, if its record and all its files are whole."""
        try:
            record = json.loads((self._records / order.key).read_text(encoding="utf-8"))
            manifest = Manifest.model_validate(json.loads(record["result"])["data"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return manifest if all(self._store.is_whole(ref) for ref in manifest.refs) else None
