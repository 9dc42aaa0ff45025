"""The GPU tasks that measure edited models: perplexity and probes, and text that they write."""

from editcollapse.runtime.environment import begun, reporter
from editcollapse.study.generation_jobs import GenerationJob
from editcollapse.study.jobs import EvaluateJob, Manifest
from tasks.units import unit_task


@unit_task(
    name="evaluate-batch",
    run_name="evaluate {job.edits.label}",
    description="Measure perplexity and probes of every edited model of a batch.",
)
def evaluate_edits(job: EvaluateJob) -> Manifest:
    """Return a batch of measurements as a manifest."""
    from editcollapse.units.evaluate import evaluate_batch

    name, batch = job.edits.model.spec.name, job.edits.batch_label
    return evaluate_batch(
        job,
        begun(f"{name}: probes of batch {batch}", "prompt"),
        reporter(f"{name}: perplexity of batch {batch}", "text"),
    )


@unit_task(
    name="continue-texts",
    run_name="continue {job.label}",
    description="Write on from the prompts of the most damaging edits, unedited and edited.",
)
def continue_edits(job: GenerationJob) -> Manifest:
    """Return the texts before and after some edits as a manifest."""
    from editcollapse.units.generate import continue_texts

    what = f"{job.model.spec.name}: texts of the {len(job.edits)} worst edits"
    return continue_texts(job, begun(what, "token"))
