"""How a task is run from a flow: on its own thread or by a task runner, and with which tags."""

from collections.abc import Callable
from typing import Any, TypeVar

from prefect import Task, get_client
from prefect.context import FlowRunContext, TagsContext
from prefect.task_runners import ThreadPoolTaskRunner

from editcollapse.orders import Order
from editcollapse.planning import StudyPlan

Result = TypeVar("Result")


def tag_this_run(*names: str) -> None:
    """Add tags to the flow run that runs; a flow knows them only once it has read its study."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, tags={*context.flow_run.tags, *names})


def tag_study(plan: StudyPlan) -> None:
    """Tag the flow run that runs with a study, its models and its methods."""
    tag_this_run(
        f"study:{plan.study.name}",
        *(f"model:{model.order.spec.name}" for model in plan.models),
        *(f"method:{method}" for method in plan.study.methods),
    )


def runs_here() -> bool:
    """Return whether the flow that runs calls its tasks on its own thread.

    A pool of one thread would run them one after another as well. But OpenMP gives every thread
    that computes a team of its own, and with more threads than cores all teams wait asleep: v* of
    a small model takes half as long again.
    """
    context = FlowRunContext.get()
    runner = None if context is None else context.task_runner
    # Prefect has no public name for the number of workers.
    return isinstance(runner, ThreadPoolTaskRunner) and runner._max_workers == 1  # noqa: SLF001


def is_unit(task: Task[[Any], Any]) -> bool:
    """Return whether a task is a unit of work, which any worker can do."""
    return "gpu" in task.tags


def started(task: Task[[Any], Result], order: Order) -> Callable[[], Result]:
    """Give one task to the task runner; return what waits for its result.

    What is no unit of work (records, reports) needs the database and runs in this process.

    A task has the tags of its own kind only, not those of the flow run: they are what the server
    is asked about, and every one is written with every event of the task.
    """
    if is_unit(task) and not runs_here():
        with _no_tags():
            return task.submit(order).result

    def run() -> Result:
        with _no_tags():
            return task(order)

    return run


def _no_tags() -> TagsContext:
    return TagsContext(current_tags=set())
