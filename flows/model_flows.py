"""Work for each model of a study: on the study's own page, or in a sub-flow for each."""

import functools
from collections.abc import Callable
from contextvars import ContextVar

from prefect import Flow, flow, tags

from editcollapse.planning import ModelPlan
from flows.progress_page import shown_progress
from flows.runners import Runner, task_runner_of
from flows.study_run import StudyRun, units_of

Work = Callable[[ModelPlan], object]


def for_each_model(run: StudyRun, work: Work, label: str, where: str | None = None) -> None:
    """Do some work for each model of a study, with the task runner that the study asks for.

    One model and the default runner need no sub-flow, which takes a second.

    Args:
        run: the pass through the study's plan.
        work: called with each model.
        label: what the work is, for the names of sub-flows: the methods.
        where: layers that the work is about; the model's own where left out.
    """
    plan = run.plan
    if len(plan.models) == 1 and plan.study.runner.kind == "thread":
        work(plan.models[0])
        return
    edit_model = _edit_model_flow(task_runner_of(plan.study.runner))
    methods = [f"method:{method}" for method in plan.study.methods]
    for model in plan.models:
        spec = model.order.spec
        token = _present.set(functools.partial(_with_progress, run, work, model))
        try:
            with tags(f"study:{plan.study.name}", f"model:{spec.name}", *methods):
                edit_model(spec.name, where or f"layer {model.order.layer}", label)
        finally:
            _present.reset(token)


def _with_progress(run: StudyRun, work: Work, model: ModelPlan) -> None:
    about = f"{run.plan.study.name} {model.order.spec.name}"
    with shown_progress("model", about, units=units_of(run.plan, model)):
        work(model)


_present: ContextVar[Callable[[], None]] = ContextVar("work of the sub-flow that runs")


def do_present_work() -> None:
    """Do what the sub-flow that runs is there for."""
    _present.get()()


def _edit_model_flow(runner: Runner) -> Flow[[str, str, str], None]:
    """Return the sub-flow of one model, with a task runner.

    Its page shows three short parameters, not a whole plan. It travels to the workers of a cluster
    with each task, which have none of these modules: so it imports what it needs when it runs.
    """

    @flow(
        name="edit-model",
        flow_run_name="{model} {where}, {label}",
        task_runner=runner,
        persist_result=False,
    )
    def edit_model(model: str, where: str, label: str) -> None:  # noqa: ARG001  shown
        """Prepare one model, then edit and measure it batch by batch."""
        from flows.model_flows import do_present_work

        do_present_work()

    return edit_model
