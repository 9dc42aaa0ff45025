"""Downstream tasks by lm-evaluation-harness, in process, on a model that is loaded already.

Source: EleutherAI/lm-evaluation-harness, its evaluator. Its ``simple_evaluate`` asks the machine
what it is at every call, which takes seconds; here its parts run in the same order, with the same
seeds, and give the same numbers. lm_eval is imported when a task is scored, not before.

What a task may do here is less than lm_eval lets it do: no code that a model writes is run, none of
the hub either, and templates of a local task run in Jinja's sandbox.
"""

import copy
import dataclasses
import functools
import json
import math
import numbers
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from editcollapse.data.harness_tasks import HarnessTask, harness_version
from editcollapse.errors import (
    DatasetError,
    EditCollapseError,
    StudyError,
    first_line,
    nearest_first,
)
from editcollapse.evaluation.harness import (
    Harness,
    Progress,
    generators_kept,
    load_harness,
    quiet,
    sandboxed,
)
from editcollapse.models.loading import LoadedModel
from editcollapse.runtime.devices import device_memory_error, is_out_of_memory

SEED = 1234
"""lm_eval's own default, of numpy, torch and the choice of examples."""
_RANDOM_SEED = 0
"""Its default of Python's generator."""
_BATCH = 16
"""Requests in one forward."""
_CLOSED_FORM = ("mean", "acc_all")
"""Aggregations whose standard error lm_eval knows in closed form; of others it draws samples anew,
100000 times, in processes of its own."""
_NEAREST = 8
_UNSTATED = "Yaml"
"""lm_eval's word for the version of a task that states none."""


@dataclasses.dataclass(frozen=True, slots=True)
class TaskScore:
    """One metric of one task, on one model."""

    task: str
    """Of a group that was asked for: the group, or one of its tasks."""
    version: str | None
    """None where the task states none."""
    metric: str
    filter: str
    """What lm_eval made of the answers before it scored them; ``none``: nothing."""
    value: float | None
    """As lm_eval gives it; None where an answer is no number, so that lm_eval would count a choice
    that the model has not made, or where the score itself is NaN."""
    stderr: float | None
    """Standard error of a mean. None where ``value`` is,
    or the score is no mean, or is of one item."""
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
    harness = load_harness()
    with quiet(harness, on_request), generators_kept(), sandboxed(harness, task):
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
            if task.content is not None and isinstance(error, _faults_of_tasks()):
                raise DatasetError(
                    f"lm_eval cannot ask task {task.name}: {type(error).__name__}: "
                    f"{first_line(error)}. Look for an item without an answer, with an answer of "
                    "no token, or without a field that its templates name."
                ) from error
            raise
    return tuple(_scores(found, lm.n_without_answer))


def _faults_of_tasks() -> tuple[type[Exception], ...]:
    """Return what lm_eval raises for items that do not fit their task."""
    from jinja2 import TemplateError

    return (AssertionError, LookupError, TypeError, ValueError, TemplateError)


def _language_model(harness: Harness, loaded: LoadedModel, settings: HarnessSettings) -> Any:
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


def _tasks_of(harness: Harness, task: HarnessTask) -> Any:
    """Return tasks and groups as lm_eval evaluates them, made anew.

    Raises:
        StudyError: lm_eval has no task, group or tag of this name.
        DatasetError: it cannot make the task.
    """
    try:
        return _local_task(harness, task) if task.content else _own_task(harness, task.name)
    except EditCollapseError:
        raise
    except Exception as error:  # whatever lm_eval, Jinja, datasets or the hub raises
        raise DatasetError(
            f"lm_eval cannot make task {task.name}: {type(error).__name__}: {first_line(error)}. "
            "Correct its YAML or data; tasks of lm_eval's own need the hub, or its cache."
        ) from error


def _own_task(harness: Harness, name: str) -> Any:
    """Return a task, group or tag of lm_eval's own, whose data comes from the hub or its cache."""
    manager = _manager(harness)
    if name not in manager.task_index:
        near = nearest_first(name, manager.all_tasks).split(", ")[:_NEAREST]
        raise StudyError(
            f"lm_eval {harness_version()} has no task {name!r}. Near it: {', '.join(near)}. A task "
            "of your own is asked for by its YAML file."
        )
    return manager.load([name])


@functools.cache
def _manager(harness: Harness) -> Any:
    """Return lm_eval's index of its own tasks, which takes seconds to make."""
    return harness.tasks.TaskManager()


def _local_task(harness: Harness, task: HarnessTask) -> Any:
    """Return a local task, made of its content alone: nothing is read and nothing downloaded."""
    import datasets

    assert task.content is not None
    content = json.loads(task.content)
    config = content["config"]
    whole = datasets.DatasetDict(
        {split: datasets.Dataset.from_list(rows) for split, rows in content["data"].items()}
    )
    metadata = config.get("metadata")
    config["metadata"] = metadata if isinstance(metadata, dict) else {}
    config["custom_dataset"] = lambda **_: whole
    for name in ("tag", "group", "dataset_name"):
        config.pop(name, None)
    made = harness.task.ConfigurableTask(config=config)
    return {"tasks": {made.task_name: made}, "groups": {}, "group_map": {}}


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
                version=None if version in {None, _UNSTATED} else str(version),
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
