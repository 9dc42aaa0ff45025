"""Tasks before the edits: context templates and the unedited model."""

from editcollapse.runtime.environment import Report, begun, tell
from editcollapse.study.jobs import Manifest, TemplatesJob, UneditedJob
from tasks.units import unit_task


@unit_task(
    name="context-templates",
    run_name="templates {job.model.spec.name}",
    description="Draw, or take over, the context templates that prefixed keys are averaged over.",
)
def context_templates(job: TemplatesJob) -> Manifest:
    """Return a template set as a manifest."""
    from editcollapse.units.prepare import prepare_templates

    tell(Report(f"{job.model.spec.name}: context templates"))
    return prepare_templates(job)


@unit_task(
    name="unedited-model",
    run_name="unedited {job.model.spec.name}",
    description="Measure the unedited model's perplexity, once per model.",
)
def unedited_model(job: UneditedJob) -> Manifest:
    """Return the unedited model's perplexity as a manifest."""
    from editcollapse.units.prepare import measure_unedited

    return measure_unedited(job, begun(f"{job.model.spec.name}: perplexity unedited", "text"))
