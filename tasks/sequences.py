"""The GPU tasks of editors beyond rank one, and of sequences of edits."""

from editcollapse.runtime.environment import begun
from editcollapse.study.jobs import Manifest
from editcollapse.study.sequence_jobs import (
    EditorBatchJob,
    LengthsJob,
    SequenceChunkJob,
    TargetsJob,
)
from tasks.units import unit_task


@unit_task(
    name="target-values",
    run_name="z* of {job.label}",
    description="Optimise z* of a batch of requests on the unedited model.",
)
def target_values(job: TargetsJob) -> Manifest:
    """Return z* of a batch as a manifest."""
    from editcollapse.units.editors import optimise_targets

    return optimise_targets(job, begun(f"z* of {job.label}", "step"))


@unit_task(
    name="value-lengths",
    run_name="lengths of target values of {job.inputs.model.spec.name}",
    description="Find the mean length of a target value on the unedited model, for NAS.",
)
def value_lengths(job: LengthsJob) -> Manifest:
    """Return the mean length as a manifest's value."""
    from editcollapse.units.editors import mean_length

    return mean_length(job)


@unit_task(
    name="editor-batch",
    run_name="edit and evaluate {job.label}",
    description="Edit a batch of requests by one editor, each by itself, and measure every edit.",
)
def edit_singly(job: EditorBatchJob) -> Manifest:
    """Return a batch of single edits and their measurements as a manifest."""
    from editcollapse.units.editor_batch import edit_and_measure

    return edit_and_measure(job, begun(job.label, "step"))


@unit_task(
    name="sequence-chunk",
    run_name="{job.label}",
    description="Make some steps of a sequence of edits, and measure the model after the last.",
)
def edit_chunk(job: SequenceChunkJob) -> Manifest:
    """Return a chunk of a sequence as a manifest."""
    from editcollapse.units.sequence import sequence_chunk

    return sequence_chunk(job, begun(job.label, "edit"))
