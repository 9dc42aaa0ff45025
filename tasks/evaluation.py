"""The GPU tasks that measure edited models: perplexity and probes, and text that they write."""

from editcollapse.runtime.environment import reporter
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

    edits = job.edits
    what = f"evaluate {edits.model.spec.name}, batch {edits.batch_label}"
    return evaluate_batch(job, reporter(what))


@unit_task(
    name="continue-texts",
    run_name="continue {job.label}",
    description="Write on from the prompts of the most damaging edits, unedited and edited.",
)
def continue_edits(job: GenerationJob) -> Manifest:
    """Return the texts before and after some edits as a manifest."""
    from editcollapse.units.generate import continue_texts

    what = f"continue {job.label}"
    return continue_texts(job, reporter(what))
