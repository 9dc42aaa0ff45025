"""What comes before the edits: context templates and the unedited model."""

from editcollapse.orders import Manifest, TemplatesOrder, UneditedOrder
from editcollapse.progress import reporter
from tasks.units import unit_task


@unit_task(
    name="context-templates",
    run_name="templates {order.model.spec.name}",
    description="Draw, or take over, the context templates that prefixed keys are averaged over.",
)
def context_templates(order: TemplatesOrder) -> Manifest:
    """Return a template set as a manifest."""
    from editcollapse.once import computed_once
    from editcollapse.preparing import prepare_templates

    return computed_once(order, lambda: prepare_templates(order))


@unit_task(
    name="unedited-model",
    run_name="unedited {order.model.spec.name}",
    description="Measure the unedited model's perplexity, once per model.",
)
def unedited_model(order: UneditedOrder) -> Manifest:
    """Return the unedited model's perplexity as a manifest."""
    from editcollapse.once import computed_once
    from editcollapse.preparing import measure_unedited

    what = f"unedited {order.model.spec.name}"
    return computed_once(order, lambda: measure_unedited(order, reporter(what)))
