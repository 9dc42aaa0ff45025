"""Cached tasks: cache, retries and device lock of every job.

The decorator runs where a task is defined. A worker that gets the task never sees this module:
what it gets refers to Prefect and to ``editcollapse`` only.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from editcollapse.runtime.retry import DELAYS_S, JITTER, RETRIES, is_transient_failure
from editcollapse.study.jobs import Job, Manifest

Asked = TypeVar("Asked", bound=Job)


def unit_task(
    name: str, run_name: str, description: str
) -> Callable[[Callable[[Asked], Manifest]], Task[[Asked], Manifest]]:
    """Make a function that computes a job a GPU task, cached by the manifest that it stores.

    The results folder's manifests are the one cache: Prefect keeps no result, and reads none. A run
    whose unit was there ends in a state named ``Cached``.

    Args:
        name: the task's, for the UI.
        run_name: template of its runs' names; ``job`` is the task's argument.
        description: one sentence for the UI.
    """

    def make(compute: Callable[[Asked], Manifest]) -> Task[[Asked], Manifest]:
        @functools.wraps(compute)
        def unit(job: Asked) -> Any:
            from prefect.states import Completed

            from editcollapse.study.locks import cached_or_computed

            computed: list[Manifest] = []

            def compute_here() -> Manifest:
                computed.append(compute(job))
                return computed[0]

            manifest = cached_or_computed(job, compute_here)
            return manifest if computed else Completed(name="Cached", data=manifest)

        made = task(
            name=name,
            task_run_name=run_name,
            description=description,
            cache_policy=NO_CACHE,
            persist_result=False,
            tags=["gpu"],
            retries=RETRIES,
            retry_delay_seconds=list(DELAYS_S),
            retry_jitter_factor=JITTER,
            retry_condition_fn=is_transient_failure,
        )(unit)
        return cast("Task[[Asked], Manifest]", made)

    return make
