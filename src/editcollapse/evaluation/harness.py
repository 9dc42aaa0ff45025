"""lm-evaluation-harness loaded late, and kept within bounds while it runs.

It takes seconds to import and is an extra. It logs, warns and draws bars of its own, draws from the
global random generators, fetches metrics' code from the hub, and gives templates of tasks all of
Python: here it does none of this.
"""

import contextlib
import dataclasses
import functools
import importlib
import logging
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from editcollapse.data.harness_tasks import EXTRA, HarnessTask, harness_version
from editcollapse.errors import StudyError, first_line

Progress = Callable[[int, int], None] | None
"""Called with what is done and all there is to do."""
_LOGGERS = ("lm_eval", "datasets", "evaluate", "huggingface_hub", "absl")


@dataclasses.dataclass(frozen=True, slots=True)
class Harness:
    """lm_eval's modules that are used."""

    evaluate: Any
    """The package of metrics that lm_eval asks for those that it lacks."""
    evaluator: Any
    huggingface: Any
    model: Any
    task: Any
    metrics: Any
    registry: Any
    tasks: Any
    utils: Any


@functools.cache
def load_harness() -> Harness:
    """Return lm_eval's modules, imported.

    Raises:
        StudyError: it is not installed, or a package that it needs is not.
    """
    version = harness_version()
    names = {
        "evaluate": "evaluate",
        "evaluator": "lm_eval.evaluator",
        "huggingface": "lm_eval.models.huggingface",
        "model": "lm_eval.api.model",
        "task": "lm_eval.api.task",
        "metrics": "lm_eval.api.metrics",
        "registry": "lm_eval.api.registry",
        "tasks": "lm_eval.tasks",
        "utils": "lm_eval.utils",
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Harness(**{name: importlib.import_module(path) for name, path in names.items()})
    except ImportError as error:
        raise StudyError(
            f"lm-evaluation-harness {version} cannot be loaded ({first_line(error)}): "
            f"pip install 'editcollapse[{EXTRA}]', here and on every worker."
        ) from error


class _Bar:
    """Stands for tqdm in lm_eval: draws nothing, and tells how many requests are answered.

    Args:
        items: what is gone through, where anything is.
        on_request: called with requests done and all.
        total: of a bar that is moved by hand.
    """

    def __init__(
        self,
        items: Any = (),
        *,
        on_request: Progress = None,
        total: int | None = None,
        **_others: Any,
    ) -> None:
        self._items, self._on_request, self._total, self._done = items, on_request, total, 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def update(self, n: int = 1) -> None:
        """Count requests as answered."""
        self._done += n
        if self._on_request is not None and self._total:
            self._on_request(self._done, self._total)

    def close(self) -> None:
        """Nothing is open."""


@contextlib.contextmanager
def quiet(harness: Harness, on_request: Progress) -> Iterator[None]:
    """Let lm_eval and what it uses neither log, warn nor draw bars while the block runs."""
    bar = functools.partial(_Bar, on_request=on_request)
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_replaced(harness.huggingface, "tqdm", bar))
        for module in (harness.model, harness.task, harness.metrics):
            stack.enter_context(_replaced(module, "tqdm", _Bar))
        for name, level in levels.items():
            logging.getLogger(name).setLevel(logging.CRITICAL)
            stack.callback(logging.getLogger(name).setLevel, level)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def sandboxed(harness: Harness, task: HarnessTask) -> Iterator[None]:
    """Let no metric be fetched, and a local task's templates reach nothing but its own records.

    What tasks of lm_eval's own do beside that is code of the package that is installed.
    """

    def get_metric(name: str, hf_evaluate_metric: bool = False) -> Any:  # noqa: FBT001, FBT002
        if hf_evaluate_metric or name not in harness.registry.metric_registry:
            refuse(name)
        return own_metric(name)

    def refuse(name: str, *_args: Any, **_kwargs: Any) -> Any:
        raise StudyError(
            f"task {task.name} asks for metric {name!r}, whose code lies on the hub, and no code "
            "of the hub is run here. Ask another task, or one of your own with lm_eval's metrics."
        )

    own_metric = harness.task.get_metric
    with (
        _replaced(harness.task, "get_metric", get_metric),
        _replaced(harness.evaluate, "load", refuse),
        _templates_sandboxed(harness, task),
    ):
        yield


@contextlib.contextmanager
def _templates_sandboxed(harness: Harness, task: HarnessTask) -> Iterator[None]:
    if task.content is None:
        yield
        return
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    own = harness.utils.env
    sandbox = ImmutableSandboxedEnvironment(
        loader=own.loader,
        undefined=own.undefined,
        keep_trailing_newline=own.keep_trailing_newline,
    )
    sandbox.filters.update(own.filters)
    with _replaced(harness.utils, "env", sandbox):
        yield


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Let a module's attribute be another for the block; one that is not there stays away."""
    if not hasattr(module, name):
        yield
        return
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Give the global random generators back the state that they had before the block."""
    own, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002  lm_eval's
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(numpys)  # noqa: NPY002
