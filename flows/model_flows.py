"""Work for each model of a study: on the study's own page, or in a sub-flow for each."""

import functools
from collections.abc import Callable
from contextvars import ContextVar

from prefect import Flow, flow, tags

from editcollapse.planning import ModelPlan, StudyPlan
from flows.runners import Runner, task_runner_of

Work = Callable[[ModelPlan], None]


def for_each_model(plan: StudyPlan, work: Work) -> None:
    """Do some work for each model of a plan, with the task runner that its study asks for.

    One model and the default runner need no sub-flow, which takes a second.
    """
    if len(plan.models) == 1 and plan.study.runner.kind == "thread":
        work(plan.models[0])
        return
    edit_model = _edit_model_flow(task_runner_of(plan.study.runner))
    for model in plan.models:
        spec = model.order.spec
        token = _present.set(functools.partial(work, model))
        try:
            with tags(f"study:{plan.study.name}", f"model:{spec.name}"):
                edit_model(spec.name, model.order.layer)
        finally:
            _present.reset(token)


_present: ContextVar[Callable[[], None]] = ContextVar("work of the sub-flow that runs")


def do_present_work() -> None:
    """Do what the sub-flow that runs is there for."""
    _present.get()()


def _edit_model_flow(runner: Runner) -> Flow[[str, int], None]:
    """Return the sub-flow of one model, with a task runner.

    Its page shows two short parameters, not a whole plan. It travels to the workers of a cluster
    with each task, which have none of these modules: so it imports what it needs when it runs.
    """

    @flow(
        name="edit-model",
        flow_run_name="{model} layer {layer}",
        task_runner=runner,
        persist_result=False,
    )
    def edit_model(model: str, layer: int) -> None:  # noqa: ARG001  shown on the run page
        """Prepare one model, then edit and measure it batch by batch."""
        from flows.model_flows import do_present_work

        do_present_work()

    return edit_model
