"""A study's plan in words: what would run, what is cached, what is missing, how much memory."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from editcollapse.config.spec import StudySpec

if TYPE_CHECKING:
    from editcollapse.study.missing_inputs import MissingInput
    from editcollapse.study.plan import StudyPlan
    from flows.outlook import ModelOutlook

_GIB = 1 << 30
_WORK = {
    "values": "v*",
    "answers": "answers",
    "evaluation": "evaluation",
    "moment": "covariance",
}


def plan_lines(plan: "StudyPlan", outlooks: "Sequence[ModelOutlook]") -> Iterator[str]:
    """Yield the lines of a plan whose inputs are all here."""
    study = plan.study
    yield (
        f"study {study.name} ({plan.study_id}): {len(plan.models)} models x "
        f"{len(study.methods)} methods x {len(plan.requests.records)} requests = "
        f"{plan.n_edits} edits"
    )
    for rejection in plan.requests.rejections:
        yield f"rejected: record {rejection.record_index}: {rejection.reason}"
    for rejection in plan.texts.rejections:
        yield f"rejected: text {rejection.record_index}: {rejection.reason}"
    for outlook in outlooks:
        order = outlook.plan.order
        yield ""
        yield (
            f"{order.spec.name}: {outlook.plan.files.architecture.family}, layer {order.layer} "
            f"({order.layer_source}), v* {order.values.steps} steps, covariance "
            f"{outlook.plan.moment.covariance.kind}"
        )
        guard = outlook.plan.guard
        if guard is not None:
            yield (
                f"  guard: {guard.policy} from a change bound of {guard.acts_from:.4g} on "
                f"({guard.acts_at}); {guard.thresholds.basis}; its edit batches are known once "
                "they are foreseen"
            )
        for unit in outlook.units:
            to_run = unit.n_units - unit.n_cached
            yield f"  {unit.kind:<20} {unit.n_cached} cached, {to_run} to run"
        yield from _memory_lines(outlook)


def _memory_lines(outlook: "ModelOutlook") -> Iterator[str]:
    """Yield a model's memory: what stays, and the forwards on each type of device."""
    yield (
        f"  memory, estimated    weights {_gib(outlook.weight_bytes)}, "
        f"covariance {_gib(outlook.moment_bytes)} (main memory)"
    )
    for device in outlook.devices:
        forwards = ", ".join(
            f"{_WORK[forward.work]} {_gib(forward.n_bytes)} ({forward.n_tokens} tokens)"
            for forward in device.forwards
        )
        needed = _gib(outlook.weight_bytes + device.packed_bytes + device.largest)
        weights = "weights packed twice" if device.packed_bytes else "weights"
        here = "less is free: fewer tokens" if device.free is None else f"{_gib(device.free)} free"
        yield f"    {device.device:<18} {forwards}; with {weights} {needed}; {here}"


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / _GIB:.2f} GiB"


def survey_lines(study: StudySpec, missing: "Sequence[MissingInput]") -> Iterator[str]:
    """Yield the lines of a plan some of whose inputs are not here.

    Raises:
        StudyError: a preset does not exist.
        ModelError: a layer is out of a preset's range.
    """
    from editcollapse.study.missing_inputs import expected_models

    yield (
        f"study {study.name}: the file is valid; {len(study.models)} models x "
        f"{len(study.methods)} methods ({', '.join(study.methods)})"
    )
    for model in expected_models(study):
        layer = "by depth" if model.layer is None else str(model.layer)
        source = "unpublished" if model.preset is None else model.preset.source
        line = f"  {model.spec.name}: {model.spec.source}, layer {layer} ({source})"
        if model.moment_bytes is not None and study.covariance.kind != "identity":
            line += f", covariance {model.moment_bytes / _GIB:.2f} GiB"
        yield line
    yield f"not here yet, {len(missing)} of its inputs:"
    for found in missing:
        yield f"  {found.what}: {found.where}: {found.reason}"
    yield "Put them there, or run the study where they are; then `plan` counts edits and memory."
