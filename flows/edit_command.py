"""The command ``edit``, as ``python -m flows`` calls it."""

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from editcollapse.errors import ModelError
from editcollapse.study.results_folder import place_of
from flows.edit_options import REFUSED
from flows.observe import environment
from flows.observe.command_run import run_watched
from flows.terminal import STOPPED, console, print_json, shown
from reports.text import number

if TYPE_CHECKING:
    from storage.readers import ToldEdit


def edit(options: argparse.Namespace) -> int:
    """Make one edit, or let the guard decide on it; say what became of it."""
    from flows.single_edit import single_edit

    place = place_of(options.results)
    with single_edit(options) as asked:
        from flows.run.guard_steps import plan_guarded

        plan_guarded(asked.study, place.name)  # a mistake is told before a server starts
        server = environment.prepare(place.here)
        if not options.json:
            where = shown(place.name)
            console().print(f"one edit with {server}; results in {where}", markup=False)
        study_id = run_watched(server, _collapse_edit, asked.study, asked.known, place.name)
    if study_id is None:
        return STOPPED
    from storage.readers import rejection_of, told_edit

    told = told_edit(place.here, study_id)
    if told is None:
        reason = rejection_of(place.here, study_id)
        raise ModelError(f"{options.model} cannot take this edit: {reason}.")
    if options.json:
        print_json(told)
    else:
        for line in _lines(told):
            console().print(line, markup=False, soft_wrap=True)
        console().print(f"study:      {told.study}", markup=False, soft_wrap=True)
    return REFUSED if told.decision == "refused" else 0


def _collapse_edit() -> Any:
    from flows.edit_flow import collapse_edit

    return collapse_edit


def _lines(told: "ToldEdit") -> Iterator[str]:
    """Yield what became of an edit, a line each."""
    prompt = told.prompt.replace("{}", told.subject)
    yield f"edit:       {prompt} -> {told.target_new}, of {told.model}, layer {told.layer}"
    yield (
        f"forecast:   {told.method}: {told.verdict}; change bound "
        f"{number(told.text_change_bound)}, at risk from {number(told.at_risk_at)} on, will "
        f"collapse from {number(told.collapse_at)} ({_origin(told.calibration_id)})"
    )
    yield f"decision:   {told.decision}. {told.reason}"
    if told.made_prompt is None:
        return
    if told.decision in {"switched", "prefixed"}:
        made = told.made_prompt.replace("{}", told.subject)
        yield f"made:       {made} -> {told.target_new}, by {told.made_method}"
    yield (
        f"perplexity: {number(told.perplexity_before)} before, {number(told.perplexity)} after, "
        f"{number(told.perplexity_ratio)} times as large"
    )
    yield (
        f"efficacy:   {number(told.efficacy)} without a text before the prompt, "
        f"{number(told.efficacy_prefix_mean)} with one (mean)"
    )


def _origin(calibration_id: str) -> str:
    if calibration_id == "default":
        return "default thresholds"
    return f"thresholds of calibration {calibration_id[:8]}"


EDITS: dict[str, Callable[[argparse.Namespace], int]] = {"edit": edit}
