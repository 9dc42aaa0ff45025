"""Where a study's tasks run: in the flow's own process, or on a Dask or Ray cluster."""

import os
from typing import Any, cast

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from editcollapse.errors import StudyError
from editcollapse.specs import RunnerSpec

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
