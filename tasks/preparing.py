"""What comes before the edits: context templates and the unedited model."""

from prefect import task
from prefect.cache_policies import CacheKeyFnPolicy

from editcollapse.orders import Manifest, TemplatesOrder, UneditedOrder, order_key
from editcollapse.progress import reporter


@task(
    name="context-templates",
    task_run_name="templates {order.model.spec.name}",
    description="Draw, or take over, the context templates that prefixed keys are averaged over.",
    cache_policy=CacheKeyFnPolicy(cache_key_fn=order_key),
    persist_result=True,
    result_serializer="json",
    tags=["gpu"],
)
def context_templates(order: TemplatesOrder) -> Manifest:
    """Return a template set as a manifest."""
    from editcollapse.preparing import prepare_templates

    return prepare_templates(order)


@task(
    name="unedited-model",
    task_run_name="unedited {order.model.spec.name}",
    description="Measure the unedited model's perplexity, once per model.",
    cache_policy=CacheKeyFnPolicy(cache_key_fn=order_key),
    persist_result=True,
    result_serializer="json",
    tags=["gpu"],
)
def unedited_model(order: UneditedOrder) -> Manifest:
    """Return the unedited model's perplexity as a manifest."""
    from editcollapse.preparing import measure_unedited

    return measure_unedited(order, reporter(f"unedited {order.model.spec.name}"))
