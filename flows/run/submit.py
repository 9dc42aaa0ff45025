"""How a task runs: on the flow's own thread, or on a Dask or Ray cluster, and with which tags."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from prefect import Task, get_client
from prefect.context import FlowRunContext, TagsContext
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from editcollapse.config.spec import RunnerSpec
from editcollapse.errors import StudyError
from editcollapse.study.jobs import Job
from editcollapse.study.plan import StudyPlan
from flows.observe.compat import number_of_threads, result_of

Runner = TaskRunner[PrefectFuture[Any]]


def one_at_a_time() -> Runner:
    """Return the default task runner: one task at a time in this process, so one model resident."""
    runner: Any = ThreadPoolTaskRunner(max_workers=1)
    return cast("Runner", runner)


def task_runner_of(spec: RunnerSpec) -> Runner:
    """Return the task runner that a study asks for.

    A Dask cluster that is started here listens on 127.0.0.1 alone. Ray listens on all interfaces
    whatever it is told, so what it is told is to refuse whoever does not have its token.

    Each worker of a cluster that is started here is a process with one thread, since a process
    keeps one model.

    Raises:
        StudyError: the package that the runner needs is not installed.
    """
    if spec.kind == "dask":
        return _dask(spec)
    if spec.kind == "ray":
        return _ray(spec)
    return one_at_a_time()


def _dask(spec: RunnerSpec) -> Runner:
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise _not_installed("dask") from error
    if spec.address is not None:
        runner: Any = DaskTaskRunner(address=spec.address)
    else:
        runner = DaskTaskRunner(
            cluster_kwargs={
                "n_workers": spec.workers,
                "threads_per_worker": 1,
                "processes": True,
                "host": "127.0.0.1",
                "dashboard_address": None,
                # Dask would kill a worker for the memory that a model takes; we plan for it.
                "memory_limit": 0,
            }
        )
    return cast("Runner", runner)


def _ray(spec: RunnerSpec) -> Runner:
    try:
        from prefect_ray import RayTaskRunner
    except ImportError as error:
        raise _not_installed("ray") from error
    if spec.address is not None:
        runner: Any = RayTaskRunner(address=spec.address)
    else:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        runner = RayTaskRunner(
            address="local",  # a cluster that happens to run here is somebody else's
            init_kwargs={
                "num_cpus": spec.workers,
                "include_dashboard": False,
                "log_to_driver": False,
                "logging_level": "WARNING",
            },
        )
    return cast("Runner", runner)


def _not_installed(kind: str) -> StudyError:
    return StudyError(
        f'runner.kind = "{kind}" needs a package that is not installed: '
        f"pip install 'editcollapse[{kind}]', here and on every worker."
    )


Result = TypeVar("Result")
_CACHED = "Cached"
"""Name of the state of a task that found its work done."""


@dataclasses.dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """What a task left."""

    result: Result
    was_cached: bool
    """Whether it found its work done."""


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
        *(f"model:{model.setup.spec.name}" for model in plan.models),
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
    return isinstance(runner, ThreadPoolTaskRunner) and number_of_threads(runner) == 1


def is_unit(task: Task[[Any], Any]) -> bool:
    """Return whether a task is cached work, which any worker can do."""
    return "gpu" in task.tags


def started(task: Task[[Any], Result], job: Job) -> Callable[[], Done[Result]]:
    """Give one task to the task runner; return what waits for its end.

    A job without a cache key (records, reports) needs the database and runs in this process.

    A task has the tags of its own kind only, not those of the flow run: they are what the server
    is asked about, and every one is written with every event of the task.
    """
    if is_unit(task) and not runs_here():
        with _no_tags():
            future = task.submit(job)

        def wait() -> Done[Result]:
            result = future.result()
            return Done(result, future.state.name == _CACHED)

        return wait

    def run() -> Done[Result]:
        with _no_tags():
            # A task that found its work done returns a state, of which the result is wanted.
            state: Any = task(job, return_state=True)
            return Done(cast("Result", result_of(state)), state.name == _CACHED)

    return run


def _no_tags() -> TagsContext:
    return TagsContext(current_tags=set())
