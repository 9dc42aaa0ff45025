"""How the flows run: what their runs are tagged with, and on which thread their tasks run."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from prefect import Task, get_client
from prefect.context import FlowRunContext, TagsContext
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from editcollapse.orders import Order

Result = TypeVar("Result")


def one_at_a_time() -> TaskRunner[PrefectFuture[Any]]:
    """Return the default task runner: one task at a time in this process, so one model resident."""
    runner: Any = ThreadPoolTaskRunner(max_workers=1)
    return cast("TaskRunner[PrefectFuture[Any]]", runner)


def tag_this_run(*names: str) -> None:
    """Add tags to the flow run that runs; a flow knows them only once it has read its study."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, tags={*context.flow_run.tags, *names})


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


def started(task: Task[[Any], Result], order: Order) -> Callable[[], Result]:
    """Give one task to the task runner; return what waits for its result.

    A task has the tags of its own kind only, not those of the flow run: they are what the server
    is asked about, and every one is written with every event of the task.
    """
    if not runs_here():
        with _no_tags():
            return task.submit(order).result

    def run() -> Result:
        with _no_tags():
            return task(order)

    return run


def _no_tags() -> TagsContext:
    return TagsContext(current_tags=set())
