"""What all units of work have in common: how Prefect caches them and when it tries them again.

The decorator runs where a task is defined. A worker that gets the task never sees this module:
what it gets refers to Prefect and to ``editcollapse`` only.
"""

from collections.abc import Callable
from typing import TypeVar

from prefect import Task, task
from prefect.cache_policies import CacheKeyFnPolicy

from editcollapse.runtime.retry import DELAYS_S, JITTER, RETRIES, may_pass
from editcollapse.study.jobs import Manifest, Order, order_key

Asked = TypeVar("Asked", bound=Order)


def unit_task(
    name: str, run_name: str, description: str
) -> Callable[[Callable[[Asked], Manifest]], Task[[Asked], Manifest]]:
    """Return the decorator of a unit: a GPU task that is cached by its order's key.

    Args:
        name: the task's, for the UI.
        run_name: template of its runs' names; ``order`` is the task's argument.
        description: one sentence for the UI.
    """
    return task(
        name=name,
        task_run_name=run_name,
        description=description,
        cache_policy=CacheKeyFnPolicy(cache_key_fn=order_key),
        persist_result=True,
        result_serializer="json",
        tags=["gpu"],
        retries=RETRIES,
        retry_delay_seconds=list(DELAYS_S),
        retry_jitter_factor=JITTER,
        retry_condition_fn=may_pass,
    )
