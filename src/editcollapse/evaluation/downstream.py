"""Downstream tasks by lm-evaluation-harness, in process, on a model that is loaded already.

Source: EleutherAI/lm-evaluation-harness, ``lm_eval.evaluator``. Its own ``simple_evaluate`` asks the
machine what it is for every call, which takes seconds; here its parts run in the same order, with
the same seeds, and give the same numbers. lm_eval is imported when a task is scored, not before: it
takes seconds, and is an extra.

What a task may do here is less than lm_eval lets it do: no code that a model writes is run, none of
the hub either, and templates of a local task run in Jinja's sandbox.
"""

import contextlib
import copy
import dataclasses
import functools
import importlib
import json
import logging
import math
import numbers
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from editcollapse.data.harness_tasks import EXTRA, HarnessTask, harness_version
from editcollapse.errors import DatasetError, EditCollapseError, StudyError, first_line, nearest_first
from editcollapse.models.loading import LoadedModel
from editcollapse.runtime.devices import device_memory_error, is_out_of_memory

Progress = Callable[[int, int], None] | None
"""Called with what is done and all there is to do."""

SEED = 1234
"""lm_eval's own default, of numpy, torch and the choice of examples."""
_RANDOM_SEED = 0
"""Its default of Python's generator."""
_BATCH = 16
"""Requests in one forward."""
_CLOSED_FORM = ("mean", "acc_all")
"""Aggregations whose standard error lm_eval knows in closed form; of others it draws samples anew,
100000 times, in processes of its own."""
_LOGGERS = ("lm_eval", "datasets", "evaluate", "huggingface_hub", "absl")
_NEAREST = 8
_NONE = "N/A"


@dataclasses.dataclass(frozen=True, slots=True)
class TaskScore:
    """One metric of one task, on one model."""

    task: str
    """Of a group that was asked for: the group, or one of its tasks."""
    version: str | None
    metric: str
    filter: str
    """What lm_eval made of the answers before it scored them; ``none``: nothing."""
    value: float | None
    """As lm_eval gives it; None where an answer is no number, so that lm_eval would count a choice
    that the model has not made, or where the score itself is NaN."""
    stderr: float | None
    """Standard error of a mean; None where ``value`` is, or the score is no mean, or of one item."""
    higher_is_better: bool | None
    n_samples: int
    n_without_answer: int
    """Requests, of all tasks that were run, whose log-likelihood, or whose first logits where text
    is written, were NaN."""
    n_shot: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class HarnessSettings:
    """How tasks are asked."""

    limit: int | None = None
    """Items of each task at most; None for all."""
    n_shot: int | None = None
    """Examples before each item; None for what the task says. A task that says 0 stays at 0."""
    start_token: str = "tokenizer"
    """Whether a start token opens texts: as the tokenizer does, never, or always."""
    chat_template: bool = False
    """Whether texts are put into the tokenizer's chat template."""


def score_task(
    loaded: LoadedModel,
    task: HarnessTask,
    settings: HarnessSettings,
    on_request: Progress = None,
) -> tuple[TaskScore, ...]:
    """Return what a model, with the weights that it has now, scores on a task.

    The model, its tokenizer and the process's random generators stay as they are.

    Args:
        loaded: the model; an update may stand in its weights.
        task: what to ask.
        settings: how.
        on_request: called with requests that are answered, and all of them.

    Returns:
        Metrics of the task; of a group, those of its tasks and of the group itself.

    Raises:
        StudyError: lm_eval is not installed, or has no such task.
        DatasetError: lm_eval cannot make the task: its data cannot be had, or its YAML is wrong.
        DeviceMemoryError: a batch does not fit on the device.
    """
    harness = _harness()
    with _quiet(harness, on_request), _generators_kept(), _sandboxed(harness, task):
        tasks = _tasks_of(harness, task)
        for each in tasks["tasks"].values():
            _prepare(each, settings)
        lm = _language_model(harness, loaded, settings)
        random.seed(_RANDOM_SEED)  # noqa: TID251  lm_eval draws from the global generators
        np.random.seed(SEED)  # noqa: NPY002  likewise
        torch.manual_seed(SEED)  # noqa: TID251
        try:
            found = harness.evaluator.evaluate(
                lm=lm,
                task_dict=tasks,
                limit=settings.limit,
                bootstrap_iters=1,
                log_samples=False,
                apply_chat_template=settings.chat_template,
                fewshot_as_multiturn=settings.chat_template,
                confirm_run_unsafe_code=False,
            )
        except EditCollapseError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise device_memory_error(
                    f"a batch of task {task.name}", f"{_BATCH} texts", loaded.device
                ) from error
            if isinstance(error, ValueError) and "unsafe" in str(error):
                raise StudyError(
                    f"task {task.name} runs code that the model writes, and that is never done "
                    "here. Ask another task."
                ) from error
            raise
    return tuple(_scores(found, lm.n_without_answer))


@dataclasses.dataclass(frozen=True, slots=True)
class _Harness:
    """lm_eval's modules that are used."""

    evaluator: Any
    huggingface: Any
    model: Any
    task: Any
    metrics: Any
    registry: Any
    tasks: Any
    utils: Any


@functools.cache
def _harness() -> _Harness:
    """Return lm_eval's modules, imported.

    Raises:
        StudyError: it is not installed, or a package that it needs is not.
    """
    version = harness_version()
    names = {
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
            return _Harness(**{name: importlib.import_module(path) for name, path in names.items()})
    except ImportError as error:
        raise StudyError(
            f"lm-evaluation-harness {version} cannot be loaded ({first_line(error)}): "
            f"pip install 'editcollapse[{EXTRA}]', here and on every worker."
        ) from error


def _language_model(harness: _Harness, loaded: LoadedModel, settings: HarnessSettings) -> Any:
    """Return a loaded model as lm_eval wants one; it counts answers that are no numbers."""

    class Resident(harness.huggingface.HFLM):  # type: ignore[misc,name-defined]  # lm_eval has no types
        """The resident model."""

        n_without_answer = 0

        def _loglikelihood_tokens(self, *args: Any, **kwargs: Any) -> Any:
            answers = super()._loglikelihood_tokens(*args, **kwargs)
            self.n_without_answer += sum(math.isnan(value) for value, _ in answers)
            return answers

        def _model_generate(self, *args: Any, **kwargs: Any) -> Any:
            broken: list[int] = []

            def look(_module: Any, _inputs: Any, output: Any) -> None:
                if not broken:  # at what follows the prompts
                    broken.append(int(output.logits[:, -1].isnan().any(-1).sum()))

            hook = self.model.register_forward_hook(look)
            try:
                return super()._model_generate(*args, **kwargs)
            finally:
                hook.remove()
                self.n_without_answer += sum(broken)

    model: Any = loaded.model
    tokenizer = copy.deepcopy(loaded.encoder.tokenizer)  # lm_eval gives it a padding token
    adds = _opened(tokenizer, settings.start_token)
    # Tied weights are tied already; tied anew, a packed head would get a weight of its own.
    model.tie_weights = lambda *_args, **_kwargs: None
    try:
        return Resident(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size=_BATCH,
            add_bos_token=adds,
            trust_remote_code=False,
        )
    finally:
        del model.tie_weights


def _opened(tokenizer: Any, policy: str) -> bool | None:
    """Let a tokenizer open texts by a policy; return what lm_eval is told of it."""
    if policy == "tokenizer":
        return None
    if policy == "never":
        return False
    from tokenizers.processors import TemplateProcessing

    start = str(tokenizer.bos_token)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, tokenizer.bos_token_id)]
    )
    return True


def _tasks_of(harness: _Harness, task: HarnessTask) -> Any:
    """Return tasks and groups as lm_eval evaluates them, made anew.

    Raises:
        StudyError: lm_eval has no task, group or tag of this name.
        DatasetError: it cannot make the task.
    """
    try:
        if task.content is None:
            manager = _manager(harness)
            if task.name not in manager.task_index:
                near = nearest_first(task.name, manager.all_tasks).split(", ")[:_NEAREST]
                raise StudyError(
                    f"lm_eval {harness_version()} has no task {task.name!r}. Near it: "
                    f"{', '.join(near)}. A task of your own is asked for by its YAML file."
                )
            return manager.load([task.name])
        made = _local_task(harness, task)
        return {"tasks": {made.task_name: made}, "groups": {}, "group_map": {}}
    except EditCollapseError:
        raise
    except Exception as error:  # whatever lm_eval, Jinja, datasets or the hub raises
        raise DatasetError(
            f"lm_eval cannot make task {task.name}: {type(error).__name__}: {first_line(error)}. "
            "Correct its YAML or data; tasks of lm_eval's own need the hub, or its cache."
        ) from error


@functools.cache
def _manager(harness: _Harness) -> Any:
    """Return lm_eval's index of its own tasks, which takes seconds to make."""
    return harness.tasks.TaskManager()


def _local_task(harness: _Harness, task: HarnessTask) -> Any:
    """Return a local task, made of its content alone: nothing is read and nothing downloaded."""
    import datasets

    assert task.content is not None
    content = json.loads(task.content)
    config = content["config"]
    known = harness.registry.metric_registry
    for each in config.get("metric_list") or []:
        name = str(each.get("metric"))
        if name not in known:  # lm_eval would look for its code on the hub
            raise DatasetError(
                f"task {task.name} asks for metric {name!r}, which lm_eval does not have. Known: "
                f"{nearest_first(name, known.keys())}."
            )
    whole = datasets.DatasetDict(
        {split: datasets.Dataset.from_list(rows) for split, rows in content["data"].items()}
    )
    metadata = config.get("metadata")
    config["metadata"] = metadata if isinstance(metadata, dict) else {}
    config["custom_dataset"] = lambda **_: whole
    for name in ("tag", "group", "dataset_name"):
        config.pop(name, None)
    return harness.task.ConfigurableTask(config=config)


def _prepare(task: Any, settings: HarnessSettings) -> None:
    """Set a task's examples as lm_eval does; let no score of a collapsed model end the run."""
    stated = task.get_config("num_fewshot")
    if settings.n_shot is not None and stated != 0:
        task.set_config(key="num_fewshot", value=settings.n_shot)
    elif stated is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=SEED)
    aggregations = {name: _bounded(one) for name, one in task.aggregation().items()}
    task.aggregation = lambda: aggregations


def _bounded(aggregate: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[Any]], Any]:
    """Return an aggregation that gives inf where the exponential of a mean is too large for one.

    Such as have a standard error in closed form stay what lm_eval knows them by.
    """
    if getattr(aggregate, "__name__", "") in _CLOSED_FORM:
        return aggregate

    @functools.wraps(aggregate)
    def bounded(items: Sequence[Any]) -> Any:
        try:
            return aggregate(items)
        except OverflowError:
            return math.inf

    return bounded


def _scores(found: Any, n_without_answer: int) -> Iterator[TaskScore]:
    """Yield the scores of lm_eval's results, task by task in its own order."""
    for task, metrics in found["results"].items():
        counts = found["n-samples"].get(task)
        n_samples = metrics.get("sample_len") if counts is None else counts["effective"]
        version = found["versions"].get(task)
        better = found["higher_is_better"].get(task) or {}
        n_shot = found["n-shot"].get(task)
        for key, value in metrics.items():
            metric, _, kind = key.partition(",")
            if not kind or metric.endswith("_stderr"):
                continue
            has_answers = n_without_answer == 0
            score = _number(value) if has_answers else None
            stderr = _number(metrics.get(f"{metric}_stderr,{kind}"))
            yield TaskScore(
                task=task,
                version=None if version is None else str(version),
                metric=metric,
                filter=kind,
                value=score,
                stderr=None if score is None else stderr,
                higher_is_better=better.get(metric),
                n_samples=int(n_samples or 0),
                n_without_answer=n_without_answer,
                n_shot=n_shot if isinstance(n_shot, int) else None,
            )


def _number(value: Any) -> float | None:
    """Return a score as a number; None for what is none, NaN included."""
    if not isinstance(value, numbers.Real) or math.isnan(value):
        return None
    return float(value)


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
def _quiet(harness: _Harness, on_request: Progress) -> Iterator[None]:
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
def _sandboxed(harness: _Harness, task: HarnessTask) -> Iterator[None]:
    """Let a local task's templates reach nothing but its own records while the block runs."""
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
def _generators_kept() -> Iterator[None]:
    """Give the global random generators back the state that they had before the block."""
    own, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002  lm_eval's
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(numpys)  # noqa: NPY002
